import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import noise
from tests.models.tiling.networks import CONFIGS, build, largest_difference, results
from tests.tolerances import of_network
from wfvae_toolkit.models.tiling import passes
from wfvae_toolkit.models.tiling.pieces import cut

# equality

@pytest.mark.parametrize(('height', 'width', 'tile'), [(9, 14, 4), (1, 7, 2), (5, 3, 1), (6, 6, 40)])
@pytest.mark.parametrize('settings', CONFIGS.values(), ids=CONFIGS)
def test_tiled_equals_untiled(settings, height, width, tile):
    model = build(**settings)
    untiled = results(model, height, width, batch=2)
    model.enable_tiling(tile=tile * model.downsample_factor)
    assert model.tiling_is_exact
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        tiled = results(model, height, width, batch=2)
    assert largest_difference(tiled, untiled) < of_network(model)


@pytest.mark.parametrize('window', [480, None])
def test_attention_is_whole_up_to_its_window(window):
    model = build()
    untiled = results(model, 20, 24)
    model.enable_tiling(tile=64, attention_window=window)
    assert largest_difference(results(model, 20, 24), untiled) < of_network(model)


def test_blending_spreads_the_seam(monkeypatch):
    model = build(norm=dict(type='GroupNorm', groups=4))
    latents = noise(1, 2, 32, 32)
    latents[..., 16:] *= 4  # so that statistics differ between tiles
    with torch.no_grad():
        untiled = model.decode(latents).sample

        def seam():
            model.enable_tiling(tile=128)
            error = model.decode(latents).sample - untiled
            return float((error[..., 128] - error[..., 127]).abs().mean())

        with pytest.warns(UserWarning, match='blended'):
            blended = seam()
        monkeypatch.setattr('wfvae_toolkit.models.tiling.passes.cut', lambda size, length, overlap: cut(size, length))
        with pytest.warns(UserWarning, match='blended'):
            hard = seam()
    assert blended < hard / 2


# memory

class LargestTensor(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_is_larger_than_the_picture():
    model = build(widths=(32, 8, 8), mid_blocks=[])
    picture = 3 * 384 * 384

    def largest(function, shape):
        with torch.no_grad(), LargestTensor() as seen:
            function(noise(*shape))
        return seen.elements

    for function, shape in ((model.encode, (1, 3, 384, 384)), (model.decode, (1, 2, 48, 48))):
        model.disable_tiling()
        assert largest(function, shape) > 2.5 * picture
        model.enable_tiling(tile=64)
        assert largest(function, shape) <= picture


def test_size_in_pixels_decides_for_latents_too(monkeypatch):
    tiled = []
    for name in ('tiled_features', 'tiled_details'):
        function = getattr(passes, name)
        monkeypatch.setattr(passes, name, lambda half, *rest, name=name, function=function: (
            tiled.append(name), function(half, *rest))[1])
    model = build()
    model.enable_tiling(tile=16, above_pixels=4 * 64)
    results(model, 2, 2)
    assert tiled == []
    results(model, 2, 3)
    assert tiled == ['tiled_features', 'tiled_details']
