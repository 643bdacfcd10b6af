from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests import tolerances
from wfvae_toolkit.datasets import fixed_pipeline, open_images
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents.measure import LatentMeasurement, LatentSums, measure_activations, measure_latents
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.utils.errors import NotFinite, SettingError


@pytest.fixture
def posterior():
    """12 pictures, 3 channels: one of large mean, one ordinary, one that carries nothing."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(12, 3, 4, 6, generator=generator) * torch.tensor([2.0, 1.0, 0.001])[:, None, None]
    mean[:, 0] += 1000
    logvar = torch.tensor([-3.0, -1.0, 0.0])[:, None, None] + 0.1 * torch.randn(mean.shape, generator=generator)
    return DiagonalGaussian(mean, logvar)


def sums_of(posterior, sizes):
    total = LatentSums(3)
    for mean, logvar in zip(posterior.mean.split(sizes), posterior.logvar.split(sizes), strict=True):
        total.add(DiagonalGaussian(mean, logvar))
    return total


def numbers(measured):
    return torch.tensor([measured.mean, measured.std, measured.std_of_means, measured.kl], dtype=torch.float64)


def test_measurement_is_what_all_latents_at_once_give(posterior):
    measured = LatentMeasurement.of(sums_of(posterior, [5, 1, 6]), 12, [])
    mean, logvar = posterior.mean.double(), posterior.logvar.double()
    flat = mean.transpose(0, 1).flatten(1)
    variance = flat.var(1, correction=0) + posterior.var.double().mean((0, 2, 3))
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean((0, 2, 3))
    expected = torch.stack([flat.mean(1), variance.sqrt(), flat.std(1, correction=0), kl])
    torch.testing.assert_close(numbers(measured), expected, rtol=1e-6, atol=0)
    assert measured.active == tuple((kl > 0.01).tolist()) == (True, True, False)
    assert (measured.positions, measured.images) == (12 * 24, 12)


def test_std_is_that_of_samples(posterior):
    measured = LatentMeasurement.of(sums_of(posterior, [12]), 12, [])
    noise = torch.randn(2000, *posterior.mean.shape, generator=torch.Generator().manual_seed(1))
    samples = (posterior.mean + posterior.std * noise).transpose(0, 2).flatten(1).double()
    torch.testing.assert_close(samples.view(3, -1).std(1), torch.tensor(measured.std).double(), rtol=5e-3, atol=0)
    everything = LatentMeasurement.of(sums_of(DiagonalGaussian(posterior.mean[:, 1:2].expand(-1, 3, -1, -1),
                                                               posterior.logvar[:, 1:2].expand(-1, 3, -1, -1)),
                                              [12]), 12, [])
    assert everything.global_std == pytest.approx(everything.std[0])


def test_all_channels_as_one(posterior):
    measured = LatentMeasurement.of(sums_of(posterior, [12]), 12, [])
    mean = posterior.mean.double()
    assert measured.global_mean == pytest.approx(float(mean.mean()))
    assert measured.global_std == pytest.approx(float((mean.var(correction=0) + posterior.var.double().mean()).sqrt()))


@pytest.mark.parametrize('sizes', [[1] * 12, [7, 5], [3, 3, 3, 3]])
def test_batches_and_ranks_do_not_count(posterior, sizes):
    whole = sums_of(posterior, [12])
    torch.testing.assert_close(numbers(LatentMeasurement.of(sums_of(posterior, sizes), 12, [])),
                               numbers(LatentMeasurement.of(whole, 12, [])), rtol=1e-9, atol=0)
    # A rank without any picture, then one with all.
    total = LatentSums(3)
    total.merge(LatentSums(3))
    total.merge(whole)
    assert numbers(LatentMeasurement.of(total, 12, [])).equal(numbers(LatentMeasurement.of(whole, 12, [])))


@pytest.fixture
def reconstructor(make_model):
    return Reconstructor(make_model().autoencoder, device='cpu')


@pytest.mark.parametrize('batch_size', [1, 2, 9])
def test_batch_size_of_the_network_does_not_count(reconstructor, photos, batch_size):
    """The numbers are sums in float64, but the batch may choose the network's kernel. They are of order 1."""
    dataset, tolerance = open_images(photos / 'train'), tolerances.of_network(reconstructor.autoencoder.encoder)
    torch.testing.assert_close(numbers(measure_latents(reconstructor, dataset, batch_size=batch_size)),
                               numbers(measure_latents(reconstructor, dataset, batch_size=4)),
                               rtol=tolerance, atol=tolerance)


def test_pictures_of_any_size_are_cut_to_the_factor(reconstructor, tmp_path):
    for number, size in enumerate([(8, 8), (11, 9), (8, 13)]):
        Image.new('RGB', size, (40 * number, 90, 200)).save(tmp_path / f'{number}.png')
    assert measure_latents(reconstructor, open_images(tmp_path)).positions == 2 * 2 + 2 * 2 + 2 * 3
    assert measure_latents(reconstructor, open_images(tmp_path), max_images=2).images == 2
    assert measure_latents(reconstructor, open_images(tmp_path, fixed_pipeline(16))).positions == 3 * 16
    Image.new('RGB', (3, 20)).save(tmp_path / 'thin.png')
    with pytest.raises(SettingError, match='thin.png: 3x20 px, the model needs 4 or more'):
        measure_latents(reconstructor, open_images(tmp_path))


def test_bad_files_are_counted_and_nothing_but_them_is_an_error(reconstructor, tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'b.png')
    (tmp_path / 'a.png').write_bytes(b'')
    measured = measure_latents(reconstructor, open_images(tmp_path))
    assert (measured.images, measured.bad) == (1, [('a.png', 'zero bytes')])
    with pytest.raises(SettingError, match='none of the pictures could be read; the first: a.png: zero bytes'):
        measure_latents(reconstructor, open_images(tmp_path), max_images=1)


def test_table_and_record_hold_the_numbers(posterior):
    measured = LatentMeasurement.of(sums_of(posterior, [12]), 12, [SimpleNamespace(path='x', reason='y')])
    table = measured.table()
    assert f'{measured.std[1]:.5f}' in table
    assert '2 of 3 channels active' in table
    assert '12 images, 288 positions, 1 images could not be read' in table
    record = measured.record(data='photos')
    assert record['data'] == 'photos'
    assert record['kl_nats_per_position'] == list(measured.kl)
    assert measured.statistics.std == measured.std


def test_latents_without_numbers_are_an_error(make_model, overflow_float16, photos):
    model = Reconstructor(overflow_float16(make_model().autoencoder), device='cpu', dtype=torch.float16)
    with pytest.raises(NotFinite, match=r'^00\.png \(and 3 more of its batch\): the encoder .* float16; .*float32'):
        measure_latents(model, open_images(photos / 'train'), batch_size=4)


def test_activations_are_the_largest_over_pictures_and_both_halves(reconstructor, photos, tmp_path):
    dataset = open_images(photos / 'train')
    found = measure_activations(reconstructor, dataset)
    assert found['images'] == 9
    with torch.no_grad():
        reconstructor.autoencoder.decoder.conv_in.weight.mul_(1e4)
    louder = measure_activations(reconstructor, dataset, max_images=2)
    assert (louder['images'], louder['encoder']['value'] <= found['encoder']['value']) == (2, True)
    assert louder['decoder']['value'] > 1e3
    assert louder['decoder']['module'].startswith('decoder.')
    (tmp_path / 'a.png').write_bytes(b'')
    assert measure_activations(reconstructor, open_images(tmp_path)) is None
