"""Convolutions that keep their block's input for backward, and recompute the cheap steps between the two."""

import torch
import torch.nn.functional as F
from torch import nn


def norm_act_conv(norm, conv, x):
    """``conv(silu(norm(x)))``: (B, C, H, W) -> (B, C', H', W').

    Plain autograd keeps x, the normalised x and its SiLU, three tensors of one size; this keeps x and computes the
    other two again in backward, at the cost of reading x twice more. Without gradients SiLU overwrites the
    normalised x.
    """
    if not torch.is_grad_enabled():
        h = norm(x)
        fresh = h.untyped_storage()._cdata != x.untyped_storage()._cdata
        return conv(F.silu(h, inplace=fresh))
    # The compiler itself chooses which tensors to keep. An adapter such as LoRA's computes more than conv's weight.
    # The meta device, on which sizes are estimated, has no autocast.
    if torch.compiler.is_compiling() or type(conv) is not nn.Conv2d or x.device.type == 'meta':
        return conv(F.silu(norm(x)))
    return _NormActConv.apply(norm, conv, x, conv.weight, conv.bias, *norm.parameters())


class _NormActConv(torch.autograd.Function):

    @staticmethod
    def forward(ctx, norm, conv, x, weight, bias, *norm_parameters):
        ctx.norm, ctx.conv = norm, conv
        ctx.save_for_backward(x, weight, *norm_parameters)
        device = x.device.type
        ctx.autocast = (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        return conv(F.silu(norm(x)))

    @staticmethod
    def backward(ctx, gradient):
        x, weight, *norm_parameters = ctx.saved_tensors
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), torch.autocast(x.device.type, dtype=dtype, enabled=enabled):
            leaf = x.detach().requires_grad_()
            activated = F.silu(ctx.norm(leaf))
        conv = ctx.conv
        wants_x, wants_weight, wants_bias, *wants_norm = ctx.needs_input_grad[2:]
        inner = [leaf, *(parameter for parameter, wanted in zip(norm_parameters, wants_norm, strict=True) if wanted)]
        if not wants_x and len(inner) == 1:
            inner = []
        at_activated, at_weight, at_bias = torch.ops.aten.convolution_backward(
            gradient, activated.detach().to(gradient.dtype), weight.to(gradient.dtype), [len(weight)], conv.stride,
            conv.padding, conv.dilation, False, (0, 0), conv.groups, (bool(inner), wants_weight, wants_bias))
        found = iter(torch.autograd.grad(activated, inner, at_activated.to(activated.dtype)) if inner else ())
        # Always asked for: torch 2.13's group norm crashes without it (see GroupNorm).
        at_x = next(found, None)
        at_norm = [next(found) if wanted else None for wanted in wants_norm]
        return (None, None, at_x, None if at_weight is None else at_weight.to(weight.dtype),
                None if at_bias is None else at_bias.to(weight.dtype), *at_norm)
