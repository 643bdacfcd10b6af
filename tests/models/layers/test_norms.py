import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from wfvae_toolkit.models.layers import GroupNorm, LayerNorm2d, RMSNorm2d

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def build(cls, channels=8, **settings):
    """A norm with random affine parameters."""
    torch.manual_seed(0)
    norm = cls(channels, **settings)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def layer_norm(norm, x):
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],), norm.weight, norm.bias, 1e-6).movedim(-1, 1)


def rms_norm(norm, x):
    return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight[:, None, None]


def group_norm(norm, x):
    groups = x.unflatten(1, (4, -1))
    mean, var = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), keepdim=True, unbiased=False)
    normed = ((groups - mean) / (var + 1e-6).sqrt()).flatten(1, 2)
    return normed * norm.weight[:, None, None] + norm.bias[:, None, None]


CASES = [(build(LayerNorm2d), layer_norm), (build(RMSNorm2d), rms_norm), (build(GroupNorm, groups=4), group_norm)]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(('norm', 'plain'), CASES)
def test_equals_the_formula(norm, plain, layout):
    x = torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(1)) * 3 + 1
    torch.testing.assert_close(norm(x.contiguous(memory_format=layout)), plain(norm, x))


@pytest.mark.parametrize(('norm', 'plain'), CASES)
def test_gradient_equals_the_formula(norm, plain):
    x = torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    inputs = [x, *norm.parameters()]
    ours, expected = (torch.autograd.grad(y.square().sum(), inputs) for y in (norm(x), plain(norm, x)))
    for gradient, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('norm', 'plain'), CASES)
def test_channels_last_stays(norm, plain):
    x = torch.randn(2, 8, 5, 6).contiguous(memory_format=torch.channels_last)
    assert norm(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(('norm', 'plain'), CASES)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_autocast_keeps_the_dtype_of_the_features(norm, plain, dtype):
    # Mean far from zero: sums in bfloat16 would lose it.
    x = (torch.randn(2, 8, 32, 32, generator=torch.Generator().manual_seed(1)) + 20).to(dtype)
    with torch.autocast('cpu', torch.bfloat16):
        y = norm(x)
    assert y.dtype == dtype
    tolerance = dict(rtol=2e-2, atol=2e-2) if dtype == torch.bfloat16 else dict(rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(y.float(), plain(norm, x.float()), **tolerance)


@pytest.mark.parametrize(('norm', 'plain'), CASES)
def test_autocast_is_off_inside(norm, plain):
    # On a GPU it would widen the features to float32 and keep them so for backward.
    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function.__name__ in ('layer_norm', 'rms_norm', 'group_norm'):
                states.append(torch.is_autocast_enabled('cpu'))
            return function(*args, **(kwargs or {}))

    states = []
    with torch.autocast('cpu', torch.bfloat16), Watch():
        norm(torch.randn(2, 8, 4, 4))
    assert states
    assert not any(states)


def test_pixels_are_independent_but_for_groups():
    x = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[..., 3, 3] += 5
    for norm, _ in CASES:
        same = torch.isclose(norm(x)[..., :3, :3], norm(changed)[..., :3, :3]).all().item()
        assert same != isinstance(norm, GroupNorm)


def test_group_norm_has_32_groups():
    norm, x = build(GroupNorm, 64), torch.randn(2, 64, 3, 3)
    torch.testing.assert_close(norm(x), F.group_norm(x, 32, norm.weight, norm.bias, 1e-6))


def test_group_norm_names_what_would_work():
    with pytest.raises(ValueError, match='32 groups do not divide 48 channels; use widths that are multiples of 32'):
        GroupNorm(48)


def test_group_norm_behind_frozen_layers_has_gradients():
    norm = GroupNorm(8, groups=4)
    x = torch.randn(2, 8, 5, 7).to(memory_format=torch.channels_last)
    norm(x).square().sum().backward()
    reference = torch.nn.GroupNorm(4, 8, eps=1e-6)
    reference(x.contiguous()).square().sum().backward()
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-4)
