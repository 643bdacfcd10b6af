import pytest
import torch
import torch.nn.functional as F

from wfvae_toolkit.models.discriminators import PatchDiscriminator


@pytest.fixture
def small():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(num_layers=2, width=8)
    for _ in range(10):  # away from the random vectors that the power iteration starts with
        discriminator(torch.zeros(1, 3, 12, 12))
    return discriminator


def convolutions(discriminator):
    return [*discriminator.convs, discriminator.score]


@pytest.mark.parametrize(('num_layers', 'widths'), [
    (1, [3, 64, 128, 1]), (3, [3, 64, 128, 256, 512, 1]), (4, [3, 64, 128, 256, 512, 512, 1]),
    (5, [3, 64, 128, 256, 512, 512, 512, 1])])
def test_widths_double_up_to_8x_and_strides(num_layers, widths):
    found = [(conv.in_channels, conv.out_channels, conv.stride, conv.kernel_size, conv.padding)
             for conv in convolutions(PatchDiscriminator(num_layers))]
    strides = [2] * num_layers + [1, 1]
    assert found == [(before, after, (stride,) * 2, (4, 4), (1, 1))
                     for before, after, stride in zip(widths, widths[1:], strides, strict=False)]


@pytest.mark.parametrize('size', [(12, 12), (13, 40), (31, 18)])
def test_output_size(small, size):
    expected = tuple(side // 2 // 2 - 2 for side in size)
    assert small(torch.zeros(2, 3, *size)).shape == (2, 1, *expected)


@pytest.mark.parametrize('num_layers', [1, 2, 3, 4, 5])
def test_smallest_image_is_exact(num_layers):
    discriminator = PatchDiscriminator(num_layers, width=2)
    smallest = discriminator.smallest_image
    assert discriminator(torch.zeros(1, 3, smallest, smallest)).shape == (1, 1, 1, 1)
    for size in ((smallest - 1, 200), (200, smallest - 1)):
        with pytest.raises(ValueError, match=f'use at least {smallest} px or fewer layers'):
            discriminator(torch.zeros(1, 3, *size))
    discriminator.smallest_image = 1
    with pytest.raises(RuntimeError, match='size'):
        discriminator(torch.zeros(1, 3, smallest - 1, smallest - 1))


def test_equals_the_plain_formulation(small):
    small.eval()
    images = torch.randn(2, 3, 16, 20)
    h = images
    for conv in convolutions(small):
        matrix = conv.weight_orig.flatten(1)
        weight = conv.weight_orig / (conv.weight_u @ matrix @ conv.weight_v)
        h = F.conv2d(h, weight, conv.bias, stride=conv.stride, padding=1)
        if conv is not small.score:
            h = F.leaky_relu(h, 0.2)
    torch.testing.assert_close(small(images), h)


def test_a_training_forward_is_one_step_of_power_iteration(small):
    expected = []
    for conv in convolutions(small):
        matrix = conv.weight_orig.flatten(1)
        v = F.normalize(matrix.T @ conv.weight_u, dim=0)
        expected.append((F.normalize(matrix @ v, dim=0), v))
    small.train()(torch.zeros(1, 3, 16, 16))
    for conv, (u, v) in zip(convolutions(small), expected, strict=True):
        torch.testing.assert_close(conv.weight_u, u)
        torch.testing.assert_close(conv.weight_v, v)


def test_an_evaluation_forward_is_none(small):
    before = {key: value.clone() for key, value in small.state_dict().items()}
    small.eval()(torch.zeros(1, 3, 16, 16))
    for key, value in small.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_spectral_norm_reaches_1(small):
    for _ in range(300):
        small(torch.zeros(1, 3, 12, 12))
    for conv in convolutions(small):
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)


def test_initial_weights():
    torch.manual_seed(0)
    weights = torch.cat([conv.weight_orig.flatten() for conv in convolutions(PatchDiscriminator(2, width=32))])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(weights.mean().item()) < 5e-4


def test_scores_are_float32_under_autocast_and_independent_of_layout(small):
    small.eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    exact = small(images)
    torch.testing.assert_close(small(images.contiguous(memory_format=torch.channels_last)), exact)
    with torch.autocast('cpu', torch.bfloat16):
        scores = small(images)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize('settings', [dict(num_layers=0), dict(width=0)])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match='must be at least 1'):
        PatchDiscriminator(**settings)
