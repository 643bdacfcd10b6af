import pytest
import torch

from wfvae_toolkit.models.discriminators import DiffAugment
from wfvae_toolkit.utils.errors import SettingError

SEEDS = list(range(200))


@pytest.fixture
def images():
    return torch.rand(len(SEEDS), 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize('policy', ['color', 'translation', 'cutout', ('color', 'translation', 'cutout')])
def test_an_image_and_its_reconstruction_get_the_same_by_seed_alone(images, policy):
    augment = DiffAugment(policy)
    whole = augment.drawn(images, SEEDS)(images)
    assert torch.equal(augment.drawn(images[3:5], [3, 4])(images[3:5]), whole[3:5])
    assert not torch.equal(augment.drawn(images, SEEDS[::-1])(images), whole)
    both = augment.drawn(images, SEEDS)
    assert torch.allclose(both(images) - both(images - 0.25), both(images * 0 + 0.25) - both(images * 0), atol=1e-5)


def test_translation_moves_by_an_eighth_at_most_and_fills_with_zeros(images):
    ramp = torch.arange(1.0, 16 * 24 + 1).view(1, 1, 16, 24).expand(len(SEEDS), 3, 16, 24)
    moved = DiffAugment('translation').drawn(ramp, SEEDS)(ramp)
    shifts = set()
    for before, after in zip(ramp[:, 0], moved[:, 0], strict=True):
        down, right = next((down, right) for down in range(-2, 3) for right in range(-3, 4)
                           if torch.equal(_shifted(before, down, right), after))
        shifts.add((down, right))
    assert {down for down, _ in shifts} == set(range(-2, 3))
    assert {right for _, right in shifts} == set(range(-3, 4))


def test_cutout_takes_half_of_each_side_where_it_fits(images):
    kept = (DiffAugment('cutout').drawn(images, SEEDS)(torch.ones_like(images)) != 0)[:, 0]
    rows, columns = (~kept).any(2).sum(1), (~kept).any(1).sum(1)
    assert (rows.max(), columns.max()) == (8, 12)
    assert torch.equal((~kept).sum((1, 2)), rows * columns)


def test_colours_move_within_the_paper_s_ranges(images):
    """Brightness is the shift of the mean; contrast the factor of the deviation from it."""
    changed = DiffAugment('color').drawn(images, SEEDS)(images)
    shift = changed.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert -0.5 <= shift.min() < -0.45
    assert 0.45 < shift.max() <= 0.5
    grey = [x.mean(1) - x.mean((1, 2, 3), keepdim=True)[:, 0] for x in (images, changed)]
    contrast = grey[1].std((1, 2)) / grey[0].std((1, 2))
    assert 0.5 <= contrast.min() < 0.55
    assert 1.45 < contrast.max() <= 1.5


def test_the_gradient_reaches_what_is_left_of_the_picture(images):
    few = images[:4].clone().requires_grad_()
    DiffAugment().drawn(few, SEEDS[:4])(few).sum().backward()
    assert torch.isfinite(few.grad).all()
    assert few.grad.abs().sum() > 0


@pytest.mark.parametrize('policy', [(), ('colour',)])
def test_another_policy_is_refused(policy):
    with pytest.raises(SettingError, match='some of color, translation, cutout'):
        DiffAugment(policy)


def _shifted(picture, down, right):
    moved = torch.zeros_like(picture)
    height, width = picture.shape
    moved[max(0, down):height + min(0, down), max(0, right):width + min(0, right)] = (
        picture[max(0, -down):height - max(0, down), max(0, -right):width - max(0, right)])
    return moved
