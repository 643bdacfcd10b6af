from functools import partial

import numpy as np
import pytest
import pywt
import torch

from tests import helpers
from wfvae_toolkit.models.wavelets import DiscreteWavelet, Haar, PixelUnshuffle, split_bands
from wfvae_toolkit.registry import WAVELETS

noise = partial(helpers.noise, dtype=torch.float64)
NAMES = pywt.wavelist(kind='discrete')
# Below, at and above the length of the filters (2 to 102 taps).
SIZES = [(2, 4), (12, 10), (32, 6)]


@pytest.fixture
def float64():
    """Filters are built in torch's default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# Haar

def test_haar_bands_of_one_block():
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    bands = Haar().analyze(torch.tensor([[[[a, b], [c, d]]]]))
    assert bands.flatten().tolist() == [(a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2,
                                        (a - b - c + d) / 2]


def test_haar_is_the_definition_band_major():
    image = noise(2, 3, 6, 8)
    a, b, c, d = (image[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    expected = [(a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]
    for band, wanted in zip(split_bands(Haar()(image)), expected, strict=True):
        torch.testing.assert_close(band, wanted)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_haar_inverse_and_energy(layout):
    image = noise(2, 3, 10, 14).contiguous(memory_format=layout)
    bands = Haar().analyze(image)
    assert bands.shape == (2, 12, 5, 7)
    torch.testing.assert_close(bands.square().sum(), image.square().sum())
    torch.testing.assert_close(Haar().synthesize(bands), image)
    # Onto: bands come back too.
    torch.testing.assert_close(Haar().analyze(Haar().synthesize(bands.flip(1))), bands.flip(1))


def test_haar_inverse_is_the_transpose():
    image, bands = noise(1, 3, 4, 6), noise(1, 12, 2, 3)
    torch.testing.assert_close((Haar().analyze(image) * bands).sum(), (image * Haar().synthesize(bands)).sum())


def test_haar_equals_the_general_transform(float64):
    image = noise(2, 3, 6, 8)
    torch.testing.assert_close(Haar().analyze(image), DiscreteWavelet('haar').analyze(image))


# no wavelet

def test_pixel_unshuffle_moves_pixels_band_major():
    bands = PixelUnshuffle().analyze(torch.arange(1.0, 9).reshape(1, 2, 2, 2))
    assert bands.flatten().tolist() == [1, 5, 2, 6, 3, 7, 4, 8]
    image = noise(2, 3, 6, 8)
    assert torch.equal(PixelUnshuffle().synthesize(PixelUnshuffle().analyze(image)), image)


# PyWavelets' families

@pytest.mark.parametrize('name', NAMES)
def test_equals_pywavelets(name, float64):
    wavelet = DiscreteWavelet(name)
    for size in SIZES:
        image = noise(2, 3, *size)
        low, details = pywt.dwt2(image.numpy(), name, mode='periodization', axes=(-2, -1))
        bands = wavelet.analyze(image)
        np.testing.assert_allclose(bands.numpy(), np.concatenate([low, *details], axis=1), rtol=0, atol=1e-9)
        back = pywt.idwt2((low, details), name, mode='periodization', axes=(-2, -1))
        np.testing.assert_allclose(wavelet.synthesize(bands).numpy(), back, rtol=0, atol=1e-9)


@pytest.mark.parametrize('name', NAMES)
def test_inverse(name, float64):
    # dmey's filters are cut off, and PyWavelets holds some of the others to 12 digits only.
    tolerance = 3e-2 if name == 'dmey' else 1e-6
    wavelet = DiscreteWavelet(name)
    for size in SIZES:
        image = noise(2, 3, *size)
        assert (wavelet.synthesize(wavelet.analyze(image)) - image).abs().max() < tolerance


@pytest.mark.parametrize('name', [name for name in NAMES if pywt.Wavelet(name).orthogonal])
def test_orthogonal_families_keep_energy(name, float64):
    wavelet = DiscreteWavelet(name)
    assert wavelet.orthogonal
    for size in SIZES:
        image = noise(2, 3, *size)
        ratio = wavelet.analyze(image).square().sum() / image.square().sum()
        assert ratio.item() == pytest.approx(1, abs=2e-2 if name == 'dmey' else 1e-6)


def test_biorthogonal_families_are_marked():
    assert not DiscreteWavelet('bior4.4').orthogonal


@pytest.mark.parametrize('name', ['db2', 'bior4.4', 'sym8'])
def test_float32_inverse(name):
    image = noise(2, 3, 16, 8, dtype=torch.float32)
    wavelet = DiscreteWavelet(name)
    bands = wavelet.analyze(image)
    assert bands.dtype == torch.float32
    torch.testing.assert_close(wavelet.synthesize(bands), image, rtol=0, atol=1e-5)


# contract

@pytest.mark.parametrize('wavelet', [Haar(), PixelUnshuffle(), DiscreteWavelet('db3')])
def test_holds_no_weights(wavelet):
    assert not wavelet.state_dict()
    assert not list(wavelet.parameters())


@pytest.mark.parametrize('wavelet', [Haar(), PixelUnshuffle(), DiscreteWavelet('db3')])
@pytest.mark.parametrize('size', [(3, 4), (4, 5)])
def test_odd_sizes_are_refused(wavelet, size):
    with pytest.raises(ValueError, match=rf'{size[1]}x{size[0]}: .*use even sizes'):
        wavelet.analyze(torch.zeros(1, 3, *size))


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'morl' is not a discrete wavelet of PyWavelets; known: .*coif3.*db2"):
        DiscreteWavelet('morl')


def test_bands_come_in_fours():
    with pytest.raises(ValueError, match='6 band channels: a multiple of 4'):
        Haar().synthesize(torch.zeros(1, 6, 2, 2))


def test_built_by_name():
    image = noise(1, 3, 4, 4, dtype=torch.float32)
    built = WAVELETS.build(dict(type='DiscreteWavelet', name='db2'))
    assert torch.equal(built(image), DiscreteWavelet('db2').analyze(image))
