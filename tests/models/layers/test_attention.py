import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from wfvae_toolkit.models.layers import SpatialAttention


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return SpatialAttention(16, norm=dict(type='LayerNorm2d'))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_equals_plain_softmax(attention, layout):
    x = torch.randn(2, 16, 5, 7)
    h = F.layer_norm(x.movedim(1, -1), (16,), eps=1e-6).flatten(1, 2)  # (B, H*W, C)
    query, key, value, out = (lambda h, conv=conv: h @ conv.weight[:, :, 0, 0].T + conv.bias
                              for conv in (attention.query, attention.key, attention.value, attention.out))
    scores = query(h) @ key(h).transpose(1, 2) / 16**0.5
    mixed = out(scores.softmax(dim=-1) @ value(h))
    expected = x + mixed.transpose(1, 2).unflatten(2, (5, 7))
    torch.testing.assert_close(attention(x.contiguous(memory_format=layout)), expected)


def test_the_matrix_of_all_pairs_never_exists(attention):
    positions = 64 * 64
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        attention(torch.randn(1, 16, 64, 64)).sum().backward()
    largest_bytes = max(event.self_cpu_memory_usage for event in profiler.events())
    assert 4 * 16 * positions <= largest_bytes < 4 * positions**2 / 8
