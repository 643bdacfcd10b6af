import pytest
import torch

from wfvae_toolkit.models.latent_transforms import ChannelPrefix, InterpolatedLatents, NoisyLatents, keep_channels
from wfvae_toolkit.utils.errors import SettingError

SEEDS = list(range(400))
TRANSFORMS = [NoisyLatents(0.8), NoisyLatents(0.8, relative=True), InterpolatedLatents(3.0), ChannelPrefix((1, 2, 4))]


@pytest.fixture
def latents():
    return torch.randn(len(SEEDS), 4, 3, 5, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize('transform', TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_an_image_s_transform_depends_on_its_latents_and_seed_alone(transform, latents):
    whole = transform(latents, SEEDS)
    assert torch.equal(transform(latents[7:9], SEEDS[7:9]), whole[7:9])
    assert torch.equal(transform(latents, SEEDS), whole)
    assert not torch.equal(transform(latents, SEEDS[::-1]), whole)
    assert not torch.equal(transform(latents, SEEDS, place=1), whole)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('transform', TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_gradients_and_dtype_pass(transform, latents, dtype):
    latents = latents[:3].to(dtype).requires_grad_()
    changed = transform(latents, [1, 2, 3])
    assert (changed.dtype, changed.shape) == (dtype, latents.shape)
    changed.sum().backward()
    assert torch.isfinite(latents.grad).all()
    assert latents.grad.abs().sum() > 0


def test_noise_has_a_uniform_standard_deviation(latents):
    """A fifth of the images in each fifth of [0, 0.8]; 60 values an image tell its sigma to 9 %."""
    std = (NoisyLatents(0.8)(latents, SEEDS) - latents).square().mean((1, 2, 3)).sqrt()
    assert std.max() < 0.8 * 1.35
    assert std.mean().item() == pytest.approx(0.4, abs=0.04)
    assert (std < 0.16).double().mean().item() == pytest.approx(0.2, abs=0.06)


def test_relative_noise_grows_with_the_latents(latents):
    noise = [NoisyLatents(0.8, relative=True)(scale * latents, SEEDS) - scale * latents for scale in (1, 10)]
    torch.testing.assert_close(10 * noise[0], noise[1], rtol=1e-3, atol=1e-4)


def test_interpolation_ends_at_latents_and_at_noise(latents):
    """share * 3 * noise is all that is left of latents of zeros; its mean square is 9 / 3."""
    zeros = InterpolatedLatents(3.0)(torch.zeros_like(latents), SEEDS)
    assert zeros.square().mean().item() == pytest.approx(3.0, rel=0.1)
    both = InterpolatedLatents(3.0)(latents, SEEDS)
    share = 1 - ((both - zeros) / latents).mean((1, 2, 3))
    assert 0 <= share.min() < 0.05
    assert 0.95 < share.max() <= 1


def test_a_prefix_keeps_the_first_channels_and_draws_evenly(latents):
    changed = ChannelPrefix((1, 2, 4))(latents, SEEDS)
    kept = (changed != 0).any(-1).any(-1).sum(1)
    for image, before, count in zip(changed, latents, kept, strict=True):
        assert torch.equal(image, keep_channels(before, int(count)))
    for count in (1, 2, 4):
        assert (kept == count).double().mean().item() == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: NoisyLatents(0), 'max_std=0'), (lambda: InterpolatedLatents(-1.0), r'std=-1\.0'),
    (lambda: ChannelPrefix(()), r'channels=\(\)'), (lambda: ChannelPrefix((0, 4)), r'\(0, 4\)'),
    (lambda: ChannelPrefix((8,))(torch.zeros(1, 4, 1, 1), [0]), 'of 4 latent channels')])
def test_settings_without_a_meaning_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()
