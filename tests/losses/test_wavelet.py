import pytest
import torch

from wfvae_toolkit.registry import LOSSES


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
