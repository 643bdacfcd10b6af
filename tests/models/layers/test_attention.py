import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from wfvae_toolkit.models.layers import SpatialAttention
from wfvae_toolkit.models.tiling import Tiling, attention_windows, run_mid


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


# windows

@pytest.mark.parametrize(('height', 'width', 'positions'), [(40, 50, 100), (3, 900, 100), (900, 5, 64), (17, 9, 80)])
def test_attention_windows_hold_at_most_so_many_positions(height, width, positions):
    total = torch.zeros(height, width)
    for rows, columns in attention_windows(height, width, positions):
        assert (rows.stop - rows.start) * (columns.stop - columns.start) <= positions
        total[rows.start:rows.stop, columns.start:columns.stop] += rows.weights(total)[:, None] * columns.weights(total)
    torch.testing.assert_close(total, torch.ones(height, width))


def test_windowed_attention_keeps_what_is_alike_everywhere(attention):
    tiling = Tiling(attention_window=64)
    alike, varied = torch.randn(1, 16, 1, 1).expand(1, 16, 20, 24), torch.randn(1, 16, 20, 24)
    with torch.no_grad():
        with pytest.warns(UserWarning, match='24x20 latent positions is approximate.*at most 64') as said:
            windowed = [run_mid([attention], h, tiling) for h in (alike, varied)]
        assert len(said) == 1
        torch.testing.assert_close(windowed[0], attention(alike))
        assert (windowed[1] - attention(varied)).abs().max() > 1e-4
