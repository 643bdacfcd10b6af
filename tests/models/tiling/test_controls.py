import pytest
import torch
from torch import nn

from tests.helpers import noise
from tests.models.tiling.networks import build, largest_difference, results
from tests.tolerances import of_network
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.models.tiling import AUTO_PIXELS, Tiling, TilingControls, set_tiling
from wfvae_toolkit.registry import AUTOENCODERS

# when tiles are used

def test_automatic_beyond_a_size_in_evaluation_without_gradient():
    model = AUTOENCODERS.build(dict(type='WFVAE2Image', widths=(4, 4), flow_width=4)).eval()
    height = 1024
    width = AUTO_PIXELS // height
    with torch.no_grad():
        assert model.active_tiling(height, width) is None
        assert model.active_tiling(height, width + 4).tile == 512
        assert model.train().active_tiling(height, width + 4) is None
        model.eval().disable_tiling()
        assert model.active_tiling(height, width + 4) is None
        model.enable_tiling()
        assert model.active_tiling(4, 4).tile == 512
    assert model.active_tiling(height, width + 4) is None


def test_gradients_never_pass_through_tiles():
    model = build()
    model.enable_tiling(tile=8)
    x = noise(1, 3, 16, 24).requires_grad_()
    model(x).sum().backward()
    expected, x.grad = x.grad, None
    model.disable_tiling()
    model(x).sum().backward()
    assert torch.equal(x.grad, expected)


@pytest.mark.slow
def test_an_export_is_not_tiled_and_takes_any_size():
    model = build(mid_blocks=[], widths=(4, 4), energy_flow=False).requires_grad_(False)
    model.enable_tiling(tile=4)
    whole, side = torch.export.Dim('count'), torch.export.Dim('side', min=2, max=99)
    with torch.no_grad():
        exported = torch.export.export(model, (noise(2, 3, 32, 48),), dynamic_shapes=({0: whole, 2: 4 * side},))
        images = noise(3, 3, 56, 48)
        # An export chooses other kernels than eager PyTorch.
        both = [dict(image=network(images)) for network in (exported.module(), model)]
        assert largest_difference(*both) < of_network(model)


def test_slicing_takes_images_one_by_one():
    model = build()
    expected = results(model, 2, 3, batch=3)
    batches = []
    for half in (model.encoder, model.decoder):
        half.conv_in.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    model.enable_slicing()
    assert largest_difference(results(model, 2, 3, batch=3), expected) < of_network(model)
    assert batches == [1] * 6
    model.disable_slicing()
    results(model, 2, 3, batch=3)
    assert batches[6:] == [3, 3]


# plug-ins that tile themselves

class SelfTiled(nn.Module):
    """A plug-in's half that tiles itself: it takes ``tiling`` and describes what it reads."""

    def __init__(self, half):
        super().__init__()
        self.network, self.tilings = half, []

    def forward(self, x, tiling=None):
        self.tilings.append(tiling)
        return self.network(x)

    def tiled_parts(self):
        return [nn.AvgPool2d(2)]


class PluginAutoencoder(TilingControls, nn.Module):
    """A plug-in of version 0.1: it calls ``run_half`` itself."""

    downsample_factor = 8

    def __init__(self, model):
        super().__init__()
        self.encoder, self.decoder = SelfTiled(model.encoder), SelfTiled(model.decoder)
        self.automatic_tiling()

    def encode(self, x):
        return self.run_half(self.encoder, x, self.active_tiling(*x.shape[-2:]))


def test_a_plugin_whose_halves_tile_themselves_is_given_the_tiling():
    model = build()
    x = noise(2, 3, 32, 48)
    plugin = PluginAutoencoder(model).eval()
    assert not plugin.tiling_is_exact  # AvgPool2d declares no halo
    with torch.no_grad():
        expected = model.encode(x).latent_dist.mean
        plugin.encode(x)
        plugin.enable_tiling(tile=16)
        moments, bands = plugin.encode(x)
        assert plugin.encoder.tilings == [None, plugin.tiling, plugin.tiling]  # tiled pictures go one by one
        torch.testing.assert_close(moments[:, :2], expected)
        assert len(bands) == 2
        model.encoder = plugin.encoder
        model.enable_tiling(tile=16)
        model.encode(x)
    assert plugin.encoder.tilings[3:] == [model.tiling] * 2


# settings

@pytest.mark.parametrize(('settings', 'message'), [
    (dict(tile=12), 'tile=12: use a multiple of 8 px, such as 512'),
    (dict(tile=0), 'tile=0: use a multiple of 8 px'),
    (dict(attention_window=9), 'attention_window=9: use at least 64 positions, or None'),
])
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        build().enable_tiling(**settings)


@pytest.mark.parametrize(('tiling', 'expected'), [('auto', Tiling(above_pixels=AUTO_PIXELS)), (False, None),
                                                  (dict(tile=64), Tiling(64))])
def test_the_reconstructor_hands_it_on(tiling, expected):
    assert Reconstructor(build(), device='cpu', tiling=tiling).autoencoder.tiling == expected


def test_setting_in_one_word():
    model = build()
    for tiling, expected in ((True, Tiling()), (False, None), ('auto', Tiling(above_pixels=AUTO_PIXELS)),
                             (dict(tile=64, attention_window=None), Tiling(64, attention_window=None))):
        set_tiling(model, tiling)
        assert model.tiling == expected
    set_tiling(nn.Identity(), 'auto')
    with pytest.raises(ValueError, match="Identity has no tiling: use tiling='auto' or False"):
        set_tiling(nn.Identity(), True)
