import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.analysis.kernels import record, saved_bytes
from wfvae_toolkit.models.layers import GroupNorm, LayerNorm2d, RMSNorm2d
from wfvae_toolkit.models.layers.recompute import norm_act_conv

NORMS = {'layer': lambda: LayerNorm2d(8), 'rms': lambda: RMSNorm2d(8), 'group': lambda: GroupNorm(8, groups=4)}


def make(norm='layer', dtype=torch.float64):
    torch.manual_seed(0)
    norm, conv = NORMS[norm](), nn.Conv2d(8, 6, 3, padding=1)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 8, 5, 7, dtype=dtype).to(memory_format=torch.channels_last)
    return norm.to(dtype), conv.to(dtype), x.requires_grad_()


def plain(norm, conv, x):
    return conv(F.silu(norm(x)))


def gradients(function, norm, conv, x):
    tensors = [x, *norm.parameters(), *conv.parameters()]
    for tensor in tensors:
        tensor.grad = None
    y = function(norm, conv, x)
    y.square().sum().backward()
    return y, [tensor.grad for tensor in tensors]


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('frozen', [(), ('x',), ('norm',), ('conv',), ('x', 'norm')])
def test_gradients_equal_plain_autograd(norm, frozen):
    parts = dict(zip(('norm', 'conv', 'x'), make(norm), strict=True))
    for name in frozen:
        parts[name].requires_grad_(False)
    ours, expected = gradients(norm_act_conv, **parts), gradients(plain, **parts)
    torch.testing.assert_close(ours[0], expected[0])
    for got, wanted in zip(ours[1], expected[1], strict=True):
        assert (got is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_gradients_under_autocast():
    norm, conv, x = make(dtype=torch.float32)

    def autocast(function):
        with torch.autocast('cpu', torch.bfloat16):
            y = function(norm, conv, x)
        assert y.dtype == torch.bfloat16
        return torch.autograd.grad(y.float().square().sum(), [x, *norm.parameters(), *conv.parameters()])
    for got, wanted in zip(autocast(norm_act_conv), autocast(plain), strict=True):
        assert got.dtype == wanted.dtype
        assert (got - wanted).abs().max() <= 0.02 * wanted.abs().max()


def test_a_graph_can_be_used_twice():
    norm, conv, x = make()
    y = norm_act_conv(norm, conv, x)
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], first, rtol=0, atol=0)


def test_weights_that_changed_before_backward_are_an_error():
    norm, conv, x = make()
    y = norm_act_conv(norm, conv, x)
    with torch.no_grad():
        norm.weight.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


def test_only_the_input_is_kept():
    norm, conv, x = make()
    one_map = x.numel() * x.element_size()
    assert saved_bytes(lambda: norm_act_conv(norm, conv, x), [norm, conv]) == one_map
    assert saved_bytes(lambda: plain(norm, conv, x), [norm, conv]) > 3 * one_map


def test_the_convolution_runs_once_each_way():
    norm, conv, x = make()
    calls = record(lambda: norm_act_conv(norm, conv, x).sum().backward()).calls
    assert (calls['convolution'], calls['convolution_backward']) == (1, 1)


def test_without_gradients_the_input_stays():
    norm, conv, x = make()
    before = x.detach().clone()
    with torch.no_grad():
        torch.testing.assert_close(norm_act_conv(norm, conv, x), plain(norm, conv, x))
        # A norm that hands its input on must not see it overwritten.
        torch.testing.assert_close(norm_act_conv(nn.Identity(), conv, x), plain(nn.Identity(), conv, x))
    assert torch.equal(x, before)


