import pytest
import pywt
import torch

from wfvae_toolkit.models.autoencoders import LiteVAE

SMALL = dict(latent_channels=3, extractor_widths=(6, 8), aggregator_widths=(8,), decoder_widths=(4, 6, 8),
             decoder_layers=1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LiteVAE(**SMALL).eval()


def test_shapes_and_gradients(model, make_images):
    images = make_images(2, 16, 24)
    posterior = model.encode(images).latent_dist
    decoded = model.decode(posterior.sample(torch.Generator().manual_seed(0)))
    assert posterior.mean.shape == (2, 3, 4, 6)
    assert decoded.sample.shape == images.shape
    assert (decoded.bands, model.encode(images).bands) == ((), ())
    torch.testing.assert_close(model(images), model.decode(posterior.mode()).sample)
    (decoded.sample.square().sum() + posterior.kl().sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.last_layer.shape[0] == 3


def test_level_i_sees_the_wavelet_bands_of_level_i(model, make_images):
    """Against PyWavelets' own decomposition in several levels."""
    seen = []
    for extractor in model.encoder.extractors:
        extractor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = make_images(1, 16, 16)
    model.encode(images)
    _, *details = pywt.wavedec2(images.numpy(), 'haar', mode='periodization', level=2)
    for bands, (horizontal, vertical, diagonal) in zip(seen, reversed(details), strict=True):
        expected = torch.cat([torch.from_numpy(band) for band in (horizontal, vertical, diagonal)], dim=1)
        torch.testing.assert_close(bands[:, 3:], expected)


def test_every_level_reaches_the_latents(model, make_images):
    images = make_images(1, 16, 16)
    whole = model.encode(images).latent_dist.mean
    for extractor in model.encoder.extractors:
        handle = extractor.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
        assert not torch.allclose(model.encode(images).latent_dist.mean, whole)
        handle.remove()


def test_settings_are_checked(model):
    with pytest.raises(ValueError, match=r'decoder_widths=\(8,\): two or more'):
        LiteVAE(decoder_widths=(8,))
    with pytest.raises(ValueError, match='use multiples of 4'):
        model.encode(torch.zeros(1, 3, 18, 16))
