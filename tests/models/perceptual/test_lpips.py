import pytest
import torch

from wfvae_toolkit.models.perceptual import LPIPS, STLPIPS
from wfvae_toolkit.utils.torchvision_shim import import_lpips


def save_trunk(package_network, path):
    """Write the trunk of an ``lpips.LPIPS`` as torchvision would: numbered modules under 'features'."""
    state = {f'features.{key.partition(".")[2]}': value for key, value in package_network.net.state_dict().items()}
    torch.save({**state, 'classifier.1.weight': torch.zeros(2, 2)}, path)


@pytest.fixture(scope='module', params=['alex', 'vgg'])
def pair(request, tmp_path_factory):
    """The lpips package's network and ours, on one random trunk."""
    net = request.param
    torch.manual_seed(0)
    theirs = import_lpips().LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
    path = tmp_path_factory.mktemp(net) / 'trunk.pth'
    save_trunk(theirs, path)
    return theirs, LPIPS(net, trunk_weights=path)


@pytest.mark.parametrize('size', [(64, 64), (31, 47)])
def test_equals_the_lpips_package(pair, size):
    theirs, ours = pair
    reconstruction, target = torch.rand(2, 3, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = theirs(reconstruction, target).flatten()
    assert expected.min() > 0.01
    torch.testing.assert_close(ours(reconstruction, target), expected, rtol=0, atol=1e-6)


def test_gradient_equals_the_lpips_package(pair):
    theirs, ours = pair
    reconstruction, target = torch.rand(2, 2, 3, 48, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    reconstruction.requires_grad_()
    expected, = torch.autograd.grad(theirs(reconstruction, target).sum(), reconstruction)
    gradient, = torch.autograd.grad(ours(reconstruction, target).sum(), reconstruction)
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


def test_smallest_size_is_exact(pair):
    ours = pair[1]
    size = ours.min_size
    assert ours(torch.rand(1, 3, size, size), torch.rand(1, 3, size, size)).isfinite().all()
    with pytest.raises(ValueError, match=f'at least {size}x{size} px'):
        ours(torch.rand(1, 3, size - 1, 64), torch.rand(1, 3, size - 1, 64))
    with pytest.raises(RuntimeError):
        list(ours._features(torch.rand(1, 3, size - 1, size - 1)))


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / 'trunk.pth'
    torch.save({'features.0.weight': torch.zeros(64, 3, 3, 3), 'features.0.bias': torch.zeros(64)}, path)
    with pytest.raises(ValueError, match='trunk.pth does not hold the weights of LPIPS'):
        LPIPS('vgg', trunk_weights=path)


@pytest.mark.parametrize('network', [LPIPS, STLPIPS])
def test_unknown_net_names_the_known(network):
    with pytest.raises(ValueError, match="net='squeeze': use one of 'alex', 'vgg'"):
        network('squeeze')
