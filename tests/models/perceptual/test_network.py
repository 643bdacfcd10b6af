import pytest
import torch

from wfvae_toolkit.models.perceptual import STLPIPS


@pytest.fixture(scope='module')
def network():
    return STLPIPS('alex')


@pytest.fixture
def images():
    return torch.rand(2, 2, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_is_a_distance_per_image(network, images):
    a, b = images
    assert network(a, a).tolist() == [0, 0]
    torch.testing.assert_close(network(a, b), network(b, a))
    torch.testing.assert_close(network(a, b), torch.cat([network(a[:1], b[:1]), network(a[1:], b[1:])]))


def test_layout_does_not_matter(network, images):
    a, b = images
    relaid = [image.contiguous(memory_format=torch.channels_last) for image in (a, b)]
    torch.testing.assert_close(network(*relaid), network(a, b))


def test_is_frozen_in_eval_mode(network):
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_gradient_reaches_the_reconstruction_alone(network, images):
    reconstruction, target = (image.clone().requires_grad_() for image in images)
    network(reconstruction, target).sum().backward()
    assert reconstruction.grad.norm() > 0
    assert target.grad is None


def test_gradient_is_the_slope():
    network = STLPIPS('alex').double()
    generator = torch.Generator().manual_seed(1)
    x, y, direction = torch.rand(3, 1, 3, 24, 24, generator=generator, dtype=torch.float64)
    step = 1e-6
    slope = (network(x + step * direction, y) - network(x - step * direction, y)) / (2 * step)
    x.requires_grad_()
    gradient, = torch.autograd.grad(network(x, y).sum(), x)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)


def test_gradient_is_finite_on_flat_and_equal_images(network):
    # ReLUs leave pixels without any feature there: the length of a zero vector has no slope.
    for level in (-1.0, 0.0, 1.0):
        reconstruction = torch.full((1, 3, 32, 32), level, requires_grad=True)
        network(reconstruction, torch.full((1, 3, 32, 32), level)).sum().backward()
        assert reconstruction.grad.isfinite().all()


def test_autocast_rounds_convolutions_only(network, images):
    a, b = images
    with torch.autocast('cpu', torch.bfloat16):
        measured = network(a, b)
    assert measured.dtype == torch.float32
    torch.testing.assert_close(measured, network(a, b), rtol=0.02, atol=0)


def test_bfloat16_images_are_taken(network, images):
    a, b = images.bfloat16()
    torch.testing.assert_close(network(a, b), network(a.float(), b.float()))


def test_building_draws_no_random_numbers():
    before = torch.get_rng_state()
    STLPIPS('alex')
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(('a', 'b'), [((1, 3, 32, 32), (1, 3, 32, 33)), ((1, 1, 32, 32), (1, 1, 32, 32)),
                                      ((3, 32, 32), (3, 32, 32)), ((1, 3, 32, 32), (2, 3, 32, 32))])
def test_shapes_are_checked(network, a, b):
    with pytest.raises(ValueError, match='expected two'):
        network(torch.zeros(a), torch.zeros(b))
