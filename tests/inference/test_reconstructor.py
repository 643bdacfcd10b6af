import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import build_small, save_small_run
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import NotFinite, SettingError

STATISTICS = LatentStatistics((0.5, -1.0, 2.0), (0.5, 2.0, 4.0))


@pytest.fixture
def reconstructor():
    return Reconstructor(build_small(), STATISTICS, device='cpu')


@pytest.fixture
def run(tmp_path):
    return save_small_run(tmp_path)


@pytest.mark.parametrize(('weights', 'seed'), [('ema', 1), ('raw', 0)])
def test_from_pretrained_computes_what_the_network_does(run, make_images, weights, seed):
    images = make_images()
    model = Reconstructor.from_pretrained(run, weights, device='cpu')
    autoencoder = build_small(seed)
    with torch.no_grad():
        latents = autoencoder.encode(images).latent_dist.mode()
        expected = autoencoder.decode(latents).sample.clamp(-1, 1)
    assert torch.equal(model.encode(images), latents)  # never measured: raw
    assert torch.equal(model.decode(latents), expected)
    assert torch.equal(model.reconstruct(images), expected)
    assert not model.autoencoder.training
    assert len(model.autoencoder.encode(images).bands) == 1


def test_latents_are_normalised(reconstructor, make_images):
    images = make_images()
    raw = Reconstructor(build_small(), device='cpu').encode(images)
    latents = reconstructor.encode(images)
    torch.testing.assert_close(latents, STATISTICS.normalize(raw))
    torch.testing.assert_close(reconstructor.decode(latents), Reconstructor(build_small(), device='cpu').decode(raw))


def test_samples_come_from_the_generator(reconstructor, make_images):
    images = make_images()
    first, again, other = (reconstructor.encode(images, sample=True, generator=torch.Generator().manual_seed(seed))
                           for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    posterior = build_small().encode(images).latent_dist
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(first, STATISTICS.normalize(posterior.sample(noise=noise)).detach())


@pytest.mark.parametrize(('height', 'width'), [(8, 12), (9, 12), (5, 7), (1, 1), (2, 31)])
def test_any_size_returns_in_its_size(reconstructor, height, width):
    image = torch.rand(3, height, width) * 2 - 1
    latents = reconstructor.encode(image)
    assert latents.shape == (1, 3, -(-height // 4), -(-width // 4))
    result = reconstructor.reconstruct(image)
    assert result.shape == (1, 3, height, width)
    assert torch.equal(result, reconstructor.decode(latents, size=(height, width)))
    assert torch.equal(result, reconstructor.decode(latents[0])[..., :height, :width])


def test_a_multiple_of_the_factor_is_not_touched(reconstructor, make_images):
    image = make_images(1, 8, 12)
    with torch.no_grad():
        expected = build_small()(image).clamp(-1, 1)
    torch.testing.assert_close(reconstructor.reconstruct(image), expected, atol=1e-5, rtol=0)


def test_paths_arrays_and_pictures_agree(reconstructor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    results = [reconstructor.reconstruct(image) for image in (pixels, Image.fromarray(pixels), tmp_path / 'a.png')]
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_takes_and_gives_float32(make_images, dtype):
    images = make_images()
    model = Reconstructor(build_small(), STATISTICS, device='cpu', dtype=dtype)
    latents = model.encode(images)
    result = model.decode(latents)
    assert latents.dtype == result.dtype == torch.float32
    assert next(model.autoencoder.parameters()).dtype == dtype
    full = Reconstructor(build_small(), STATISTICS, device='cpu')
    assert (latents - full.encode(images)).abs().max() < 0.1
    assert (result - full.decode(latents)).abs().max() < 0.1
    assert not torch.equal(result, full.decode(latents))


def test_latents_can_train_something_else(reconstructor, make_images):
    latents = reconstructor.encode(make_images())
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (latents * weight).square().sum().backward()
    assert weight.grad.abs().sum() > 0


def test_pictures_are_rounded(reconstructor):
    levels = torch.arange(256.0)
    images = (levels / 127.5 - 1 + 0.003).clamp(-1, 1).reshape(1, 1, 16, 16).expand(2, 3, -1, -1)
    pictures = reconstructor.to_pictures(images)
    assert [picture.size for picture in pictures] == [(16, 16)] * 2
    assert np.array_equal(np.asarray(pictures[1])[..., 0].flatten(), levels.numpy())
    assert reconstructor.to_pictures(images[0])[0].tobytes() == pictures[0].tobytes()


@pytest.mark.parametrize('size', [(0, 4), (9, 4), (8, 13)])
def test_sizes_that_cannot_be_cut_are_named(reconstructor, size):
    with pytest.raises(SettingError, match=r'\(height, width\) up to \(8, 12\)'):
        reconstructor.decode(torch.zeros(1, 3, 2, 3), size=size)


@pytest.mark.parametrize('shape', [(2, 3), (1, 1, 3, 2, 3), (1, 4, 2, 3)])
def test_latents_of_another_shape_are_named(reconstructor, shape):
    with pytest.raises(SettingError, match=r'latents are floats \(B, 3, h, w\) or \(3, h, w\)'):
        reconstructor.decode(torch.zeros(shape))


@pytest.mark.parametrize('latents', [None, 'a', [0.0], torch.zeros(1, 3, 2, 3, dtype=torch.int64),
                                     np.zeros((1, 3, 2, 3), int), torch.zeros(0, 3, 2, 3)], ids=str)
def test_latents_of_another_kind_are_named(reconstructor, latents):
    with pytest.raises(SettingError, match='latents are floats'):
        reconstructor.decode(latents)


def test_latents_may_be_an_array(reconstructor, make_images):
    latents = reconstructor.encode(make_images())
    expected = reconstructor.decode(latents)
    for array in (latents.numpy(), latents.double().numpy(), latents.numpy()[::-1][::-1]):
        assert torch.equal(reconstructor.decode(array), expected)


@pytest.mark.parametrize('size', [5, (8,), (8, 12, 3), (8.0, 12), '88'])
def test_a_size_is_two_whole_numbers(reconstructor, size):
    with pytest.raises(SettingError, match=r'\(height, width\) up to \(8, 12\)'):
        reconstructor.decode(torch.zeros(1, 3, 2, 3), size=size)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(device='gpu0'), "device 'gpu0': .*; here there is cpu"), (dict(device=3.5), 'device 3.5'),
    (dict(device='cpu', dtype='float16'), "dtype='float16': use torch.float32"),
    (dict(device='cpu', dtype=torch.int8), 'dtype=torch.int8'),
    (dict(device='cpu', statistics=LatentStatistics((0.0,), (1.0,))), 'statistics of 1 channels for .* of 3')])
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        Reconstructor(build_small(), **settings)


@pytest.mark.parametrize('images', [np.zeros((1, 3, 4, 4)), torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
                                    torch.zeros(4, 4), torch.zeros(1, 4, 4, 4), None], ids=lambda value: type(value))
def test_pictures_are_made_of_float_images_alone(reconstructor, images):
    with pytest.raises(SettingError, match='a float tensor'):
        reconstructor.to_pictures(images)


# Numbers that are none

@pytest.mark.parametrize('half', ['encoder', 'decoder'])
def test_float16_that_overflows_is_an_error_and_wider_dtypes_work(overflow_float16, make_images, half):
    images = make_images(3)
    for dtype in (torch.float32, torch.bfloat16):
        model = Reconstructor(overflow_float16(build_small(), [half]), device='cpu', dtype=dtype)
        assert model.reconstruct(images).isfinite().all()
    model = Reconstructor(overflow_float16(build_small(), [half]), device='cpu', dtype=torch.float16)
    with pytest.raises(NotFinite, match=rf'^picture 1 of 3 .*: the {half} gave NaN .* in float16; .* use bfloat16 or'):
        model.reconstruct(images)
    with pytest.raises(NotFinite, match=f'the {half} gave'):
        model.encode(images) if half == 'encoder' else model.decode(torch.ones(1, 3, 2, 2))


def test_the_picture_is_named_by_its_path(overflow_float16, tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'dark.png')
    model = Reconstructor(overflow_float16(build_small()), device='cpu', dtype=torch.float16)
    for images in (tmp_path / 'dark.png', [str(tmp_path / 'dark.png')]):
        with pytest.raises(NotFinite, match=rf'^{tmp_path}/dark\.png: the encoder'):
            model.encode(images)
    with pytest.raises(NotFinite, match='^mine: the encoder'):
        model.reconstruct(tmp_path / 'dark.png', names=['mine'])


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_latents_and_images_that_are_no_numbers_are_refused(reconstructor, value):
    latents = torch.zeros(1, 3, 2, 2)
    latents[0, 1, 1, 1] = value
    with pytest.raises(NotFinite, match='the latents hold NaN or infinity'):
        reconstructor.decode(latents)
    with pytest.raises(NotFinite, match='cannot become pictures'):
        reconstructor.to_pictures(latents)


@pytest.mark.slow
def test_compiled(make_images):
    images = make_images()
    compiled, eager = (Reconstructor(build_small(), device='cpu', compile=compile) for compile in (True, False))
    torch.testing.assert_close(compiled.reconstruct(images), eager.reconstruct(images), atol=1e-5, rtol=0)
