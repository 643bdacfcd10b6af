import numpy as np
import pytest
import torch

from wfvae_toolkit.models.sizes import fit_to_factor, size_text
from wfvae_toolkit.utils.errors import SettingError


@pytest.mark.parametrize(('height', 'width', 'factor'), [(5, 7, 4), (8, 8, 8), (9, 15, 8), (1, 3, 8), (4, 31, 32)])
def test_padding_reflects_or_repeats_on_the_right_and_at_the_bottom(height, width, factor):
    images = torch.rand(2, 3, height, width)
    padded = fit_to_factor(images, factor, 'pad').numpy()
    expected = images.numpy()
    for axis, size in ((2, height), (3, width)):
        missing = -size % factor
        amounts = [(0, missing if axis == other else 0) for other in range(4)]
        expected = np.pad(expected, amounts, mode='reflect' if missing < size else 'edge')
    assert np.array_equal(padded, expected)
    assert padded.shape[2] % factor == padded.shape[3] % factor == 0


def test_cutting_keeps_the_top_left_multiple():
    images = torch.rand(2, 3, 17, 31)
    assert torch.equal(fit_to_factor(images, 8, 'cut'), images[..., :16, :24])
    with pytest.raises(SettingError, match='31x7 px, the model needs 8 or more on each side'):
        fit_to_factor(images[..., :7, :], 8, 'cut')


def test_refusing_names_the_nearest_size():
    images = torch.rand(2, 3, 16, 24)
    assert fit_to_factor(images, 8, 'refuse') is images
    with pytest.raises(SettingError, match='23x3 px: use multiples of 8, such as 24x8'):
        fit_to_factor(images[..., :3, :23], 8, 'refuse')


@pytest.mark.parametrize('policy', ['pad', 'cut', 'refuse'])
def test_sides_that_fit_stay_as_they_are(policy):
    images = torch.rand(1, 3, 8, 16)
    assert torch.equal(fit_to_factor(images, 8, policy), images)


def test_an_unknown_policy_is_an_error():
    with pytest.raises(ValueError, match="'pad', 'cut' or 'refuse'"):
        fit_to_factor(torch.rand(1, 3, 8, 8), 8, 'crop')


def test_a_size_is_said_with_its_width_first():
    assert (size_text((64, 64)), size_text((64, 96))) == ('64', '96x64')
