import json

import numpy as np
import pytest
import torch
from PIL import Image

from wfvae_toolkit.evaluation import channel_maps as module
from wfvae_toolkit.evaluation.channel_maps import CHANNELS, SIDE, channel_maps, write_channel_maps


def test_the_mean_is_mid_grey_and_three_deviations_are_white():
    latents = torch.randn(1, 2, 20, 30, generator=torch.Generator().manual_seed(0))
    first, second = np.split(channel_maps(latents), 2)
    assert first.shape == second.shape == (20, 30)
    expected = (latents[0, 1] - latents[0, 1].mean()) / latents[0, 1].std(correction=0) / 3
    np.testing.assert_allclose(second, ((expected.clamp(-1, 1) + 1) * 127.5).numpy(), atol=0.51)


def test_neither_scale_nor_offset_of_a_channel_matters():
    latents = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(channel_maps(latents).astype(int), channel_maps(latents * 8 - 4).astype(int), atol=1)


def test_a_channel_without_any_variation_is_grey():
    assert set(channel_maps(torch.full((1, 1, 4, 4), 7.0)).flat) <= {127, 128}


@pytest.mark.parametrize(('shape', 'expected'), [
    ((CHANNELS + 9, 4, 6), (CHANNELS * 4, 6)), ((2, 4 * SIDE, 2 * SIDE), (2 * SIDE, SIDE // 2))])
def test_their_size_is_bounded(shape, expected):
    assert channel_maps(torch.zeros(1, *shape)).shape == expected


def test_the_first_images_are_written_and_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'IMAGES', 2)
    asked = []
    write_channel_maps(['b/c.jpg', 'a.jpg', 'd.jpg'], tmp_path, {'b/c.jpg': 'b/c.png', 'a.jpg': 'a.png'},
                       lambda path: asked.append(path) or torch.zeros(1, 3, 8, 10))
    assert asked == ['b/c.jpg', 'a.jpg']
    listed = json.loads((tmp_path / 'channels.json').read_text(encoding='utf-8'))
    assert listed['b/c.jpg'] == {'file': 'channels/b/c.png', 'channels': 3, 'of': 3}
    with Image.open(tmp_path / 'channels/b/c.png') as picture:
        assert (picture.mode, picture.size) == ('L', (10, 24))
