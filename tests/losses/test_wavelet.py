import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError


def bands(*values):
    """Stages of 12-channel bands, image first, each half the size of the one before."""
    return tuple(torch.full((2, 12, 4 // 2**i, 4 // 2**i), value) for i, value in enumerate(values))


def test_pairs_the_same_level_of_both_networks(make_step):
    loss = LOSSES.build(dict(type='WaveletFlowLoss'))
    encoder, decoder = bands(1.0, 2.0), bands(0.5, -1.0)[::-1]
    encoder[0][1] = 0.5  # the second image agrees at the first level
    step = make_step(encoder_bands=encoder, decoder_bands=decoder)
    assert loss(step).item() == (12 * 16 * 0.5 + 2 * 12 * 4 * 3.0) / 2
    assert loss(make_step(encoder_bands=encoder, decoder_bands=encoder[::-1])).item() == 0
    assert loss.weight == 0.1


@pytest.mark.parametrize(('encoder', 'decoder'), [((), ()), (bands(1.0, 2.0), bands(1.0)), ((), bands(1.0))])
def test_without_bands_says_what_to_turn_on(make_step, encoder, decoder):
    with pytest.raises(ValueError, match=f'{len(encoder)} encoder and {len(decoder)} decoder bands; .*energy_flow'):
        LOSSES.build(dict(type='WaveletFlowLoss'))(make_step(encoder_bands=encoder, decoder_bands=decoder))


# wavelet bands of pictures

@pytest.fixture
def pictures():
    """Target and reconstruction (2, 3, 16, 24), float64."""
    return torch.randn(2, 2, 3, 16, 24, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize('name', ['haar', 'db2'])
def test_details_are_those_of_pywavelets(make_step, pictures, name):
    target, reconstruction = pictures
    wavelet = None if name == 'haar' else dict(type='DiscreteWavelet', name=name)
    loss = LOSSES.build(dict(type='WaveletBandLoss', levels=2, wavelet=wavelet))
    expected = 0.0
    for theirs, ours in zip(target.numpy(), reconstruction.numpy(), strict=True):
        _, *ours = pywt.wavedec2(ours, name, mode='periodization', level=2)
        _, *theirs = pywt.wavedec2(theirs, name, mode='periodization', level=2)
        expected += sum(np.abs(a - b).sum() for up, down in zip(ours, theirs, strict=True)
                        for a, b in zip(up, down, strict=True)) / 2
    assert loss(make_step(target=target, reconstruction=reconstruction)).item() == pytest.approx(expected, rel=1e-6)


def test_an_error_that_is_the_same_everywhere_is_left_to_the_pixels(make_step, pictures):
    loss = LOSSES.build(dict(type='WaveletBandLoss'))
    assert loss(make_step(target=pictures[0], reconstruction=pictures[0] + 0.3)).item() < 1e-9


# spectral regularization

class Enlarging:
    """A decoder that shows each of three latent channels as 4x4 px."""

    class Decoded:
        def __init__(self, sample):
            self.sample = sample

    def decode(self, latents):
        return self.Decoded(F.interpolate(latents[:, :3], scale_factor=4))


@pytest.fixture
def latent_step(make_step):
    """Six images of 32x32 px and their latents (6, 3, 8, 8), with the seeds ``first`` to ``first + 5``."""
    def make(first=0, part=slice(None)):
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(6, 3, 8, 8, generator=generator)
        target = torch.randn(6, 3, 32, 32, generator=generator)
        return make_step(target=target[part], latents=latents[part], autoencoder=Enlarging(),
                         seeds=tuple(range(first, first + 6))[part])
    return make


def blurred(x, level):
    """Means over blocks of 2^level a side, at the size of ``x``: what Haar leaves of a picture."""
    return F.interpolate(F.avg_pool2d(x, 2**level), scale_factor=2**level)


def test_decodes_blurred_latents_and_compares_with_the_blurred_picture(latent_step):
    loss, step = LOSSES.build(dict(type='SpectralRegularizationLoss', levels=3)), latent_step()
    levels = loss.draw(step)
    assert set(levels) == {1, 2, 3}
    expected = sum((F.interpolate(blurred(step.latents[i:i + 1], level), scale_factor=4)
                    - blurred(step.target[i:i + 1], level)).abs().sum() for i, level in enumerate(levels)) / 6
    assert loss(step).item() == pytest.approx(expected.item(), rel=1e-5)


def test_fine_latent_details_do_not_reach_the_row(latent_step):
    step = latent_step()
    checkerboard = torch.ones(8, 8)
    checkerboard[::2, 1::2] = checkerboard[1::2, ::2] = -1.0
    loss = LOSSES.build(dict(type='SpectralRegularizationLoss', levels=1))
    before = loss(step)
    step.latents = step.latents + 5 * checkerboard
    assert loss(step).item() == pytest.approx(before.item(), rel=1e-5)


def test_every_level_is_drawn_alike(latent_step):
    loss = LOSSES.build(dict(type='SpectralRegularizationLoss', levels=2))
    drawn = [level for first in range(0, 600, 6) for level in loss.draw(latent_step(first))]
    assert abs(drawn.count(1) / len(drawn) - 0.5) < 0.06


@pytest.mark.parametrize('wavelet', [None, dict(type='DiscreteWavelet', name='bior2.2')])
def test_a_level_belongs_to_its_image(latent_step, wavelet):
    loss = LOSSES.build(dict(type='SpectralRegularizationLoss', wavelet=wavelet))
    whole, parts = loss(latent_step()), [loss(latent_step(part=part)) for part in (slice(0, 2), slice(2, 6))]
    assert (2 * parts[0] + 4 * parts[1]).item() / 6 == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(type='WaveletBandLoss', levels=0), 'WaveletBandLoss: levels=0; a whole number from 1'),
    (dict(type='SpectralRegularizationLoss', wavelet=dict(type='PixelUnshuffle')),
     'PixelUnshuffle has no low-pass band; use Haar')])
def test_settings_that_do_not_work_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        LOSSES.build(settings)


def test_sizes_that_do_not_halve_are_named(make_step, latent_step):
    with pytest.raises(SettingError, match='levels=3 needs images whose sides are multiples of 8; here they are 4x4'):
        LOSSES.build(dict(type='WaveletBandLoss'))(make_step())
    with pytest.raises(SettingError, match='levels=4 needs latents whose sides are multiples of 16; .* 8x8'):
        LOSSES.build(dict(type='SpectralRegularizationLoss', levels=4))(latent_step())
