import pytest
import torch

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.pixels import from_bytes, to_bytes, to_levels

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_every_level_survives_the_round_trip():
    assert torch.equal(to_bytes(from_bytes(LEVELS)), LEVELS)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(to_bytes(LEVELS.to(dtype) / 127.5 - 1), LEVELS)


def test_black_is_minus_one_and_white_one():
    assert from_bytes(LEVELS)[[0, 255]].tolist() == [-1, 1]
    assert to_levels(torch.tensor([-1.0, 0.0, 1.0, 2.0])).tolist() == [0, 127.5, 255, 382.5]


def test_bytes_are_left_as_they_are():
    before = LEVELS.clone()
    from_bytes(before)
    assert torch.equal(before, LEVELS)


def test_what_may_be_scaled_already_is_refused():
    with pytest.raises(SettingError, match='pixels of torch.float32: uint8 in 0..255 is needed'):
        from_bytes(LEVELS.float())


def test_rounds_to_the_nearest_and_clamps():
    levels = torch.tensor([-5.0, -0.4, 0.4, 0.6, 99.4, 99.6, 255.4, 300.0])
    assert to_bytes(levels / 127.5 - 1).tolist() == [0, 0, 0, 1, 99, 100, 255, 255]
