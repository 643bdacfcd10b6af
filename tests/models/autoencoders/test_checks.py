import pytest
import torch

from wfvae_toolkit.models.autoencoders.checks import (
    check_image,
    check_latents,
    check_positive,
    check_shortcuts,
    check_widths,
    layers_per_stage,
)
from wfvae_toolkit.utils.errors import SettingError


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_floats_of_any_precision_are_taken(dtype):
    check_image(torch.zeros(1, 3, 8, 12, dtype=dtype), factor=4)
    check_latents(torch.zeros(1, 5, 2, 3, dtype=dtype), channels=5)


@pytest.mark.parametrize('images', [torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [[0.5]], None])
def test_what_holds_no_floats_says_how_to_make_them(images):
    with pytest.raises(SettingError, match=r'images of .*: a float tensor is needed, .*x / 127.5 - 1'):
        check_image(images, 4)
    with pytest.raises(SettingError, match='latents of .*: a float tensor is needed, as encode gives it'):
        check_latents(images, 3)


@pytest.mark.parametrize('shape', [(1, 4, 8, 8), (3, 8, 8), (1, 3, 8, 0), (0, 5, 2, 2), (1, 3, 6, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(SettingError):
        check_image(torch.zeros(shape), 4)
    with pytest.raises(SettingError, match=r'\(B, 5, H, W\) is needed'):
        check_latents(torch.zeros(shape), 5)


def test_one_number_of_layers_is_a_number_for_each_stage():
    assert layers_per_stage('layers', 2, stages=3, least=1) == [2, 2, 2]
    assert layers_per_stage('layers', (1, 2, 3), stages=3, least=1) == [1, 2, 3]
    for layers in ([1, 2], 1.5, '2', [1, 2, True]):
        with pytest.raises(SettingError, match='layers=.*: give one number or a list of 3, one per stage'):
            layers_per_stage('layers', layers, 3, 1)
    with pytest.raises(SettingError, match=r'layers=\[2, 1, 2\]: every stage needs at least 2'):
        layers_per_stage('layers', [2, 1, 2], 3, 2)


@pytest.mark.parametrize('widths', [8, (8,), '88', None])
def test_an_autoencoder_has_at_least_two_widths(widths):
    with pytest.raises(SettingError, match='widths=.*: a list of at least two entries'):
        check_widths('widths', widths)


@pytest.mark.parametrize('size', [0, -1, 1.5, True, '3', None])
def test_sizes_are_whole_numbers_from_1(size):
    check_positive(size=1)
    with pytest.raises(SettingError, match='size=.*: a positive integer is needed'):
        check_positive(size=size)


def test_channels_at_both_ends_of_the_shortcuts_divide_the_widths():
    check_shortcuts(4, 4, 8, 12)
    for widths in ((9, 12), (8, 13)):
        with pytest.raises(SettingError, match='latent_shortcuts: the 4 channels of the encoder must divide'):
            check_shortcuts(4, 4, *widths)
