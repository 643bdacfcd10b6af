import torch
import torch.nn.functional as F
from torch import nn

from wfvae_toolkit.analysis.kernels import record, saved_bytes


def test_flops_of_a_convolution_and_its_backward():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    images = torch.randn(2, 3, 16, 16)
    forward = 2 * (2 * 16 * 16) * (3 * 3 * 3) * 8
    assert record(lambda: conv(images)).flops == forward
    # No gradient at the images: only the weight's.
    assert record(lambda: conv(images).sum().backward()).flops == 2 * forward


def test_flops_of_fused_attention_are_counted_on_the_cpu():
    heads = [torch.randn(1, 1, 64, 8) for _ in range(3)]
    assert record(lambda: F.scaled_dot_product_attention(*heads)).flops == 2 * (2 * 64 * 64 * 8)


def test_copied_bytes_count_changes_of_layout():
    images = torch.randn(1, 4, 8, 8)
    assert record(lambda: images.contiguous()).copied_bytes == 0
    assert record(lambda: images.contiguous(memory_format=torch.channels_last)).copied_bytes == 4 * 4 * 64


def test_equal_calls_are_one_kernel():
    conv = nn.Conv2d(3, 3, 1)
    images = torch.randn(1, 3, 4, 4)
    recorded = record(lambda: conv(conv(images)))
    assert list(recorded.kernels.values()) == [2]
    assert recorded.calls['convolution'] == 2


def test_saved_bytes_of_a_chain():
    layer = nn.PReLU(100)
    images = torch.randn(1, 100, requires_grad=True)
    # The input of the PReLU and the exponential's result; the weight is there anyway.
    assert saved_bytes(lambda: layer(images).exp(), [layer]) == 2 * 400
    assert saved_bytes(lambda: layer(images).exp()) == 3 * 400


def test_saved_bytes_count_a_storage_once():
    weight = torch.randn(100, requires_grad=True)

    def squares():
        first, second = weight.exp().split(50)
        return first.square().sum() + second.square().sum()
    assert saved_bytes(squares) == 400


def test_saved_bytes_of_freed_graphs_do_not_add_up():
    weight = torch.randn(100, requires_grad=True)

    def one_after_the_other():
        for _ in range(3):
            weight.exp().sum().backward()
    assert saved_bytes(one_after_the_other) == 400
