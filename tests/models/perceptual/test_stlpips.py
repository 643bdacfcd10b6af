import sys
import types

import pytest
import torch

from wfvae_toolkit.models.perceptual import STLPIPS
from wfvae_toolkit.utils.torchvision_shim import import_torchvision

# The figures published with the toolkit's specification: blur of float images in [0, 1], not rounded.
ASTRONAUT = {
    'alex': {0.5: 0.0131, 1: 0.1276, 2: 0.3795, 4: 0.5678},
    'vgg': {0.5: 0.0456, 1: 0.2196, 2: 0.4088, 4: 0.5763},
}


@pytest.fixture(scope='module')
def networks():
    return {net: STLPIPS(net) for net in ASTRONAUT}


@pytest.fixture
def package(monkeypatch):
    """The stlpips_pytorch package; it imports two others that it does not need here."""
    import_torchvision()
    for name, function in (('IPython', 'embed'), ('torchsummary', 'summary')):
        stub = types.ModuleType(name)
        setattr(stub, function, None)
        monkeypatch.setitem(sys.modules, name, stub)
    from stlpips_pytorch import stlpips
    return stlpips


@pytest.mark.parametrize('net', ASTRONAUT)
def test_equals_the_package(package, networks, net):
    theirs = package.LPIPS(net=net, variant='shift_tolerant', verbose=False)
    for size in ((64, 64), (47, 65)):
        reconstruction, target = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(3)) * 2 - 1
        with torch.no_grad():
            expected = theirs(reconstruction, target).flatten()
            measured = networks[net](reconstruction, target)
        assert expected.min() > 0.01
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(('net', 'sigma'), [
    *(('alex', sigma) for sigma in ASTRONAUT['alex']),
    *(pytest.param('vgg', sigma, marks=pytest.mark.slow) for sigma in ASTRONAUT['vgg']),
])
def test_blurred_astronaut(networks, net, sigma):
    data, filters = pytest.importorskip('skimage.data'), pytest.importorskip('skimage.filters')
    image = data.astronaut() / 255
    blurred = filters.gaussian(image, sigma, channel_axis=-1)
    target, reconstruction = (torch.from_numpy(x).permute(2, 0, 1)[None].float() * 2 - 1 for x in (image, blurred))
    with torch.no_grad():
        distance = networks[net](reconstruction, target).item()
    assert distance == pytest.approx(ASTRONAUT[net][sigma], abs=1e-4)


@pytest.mark.parametrize('net', ASTRONAUT)
def test_smallest_size_is_exact(networks, net):
    network = networks[net]
    size = network.min_size
    assert network(torch.rand(1, 3, size, size), torch.rand(1, 3, size, size)).isfinite().all()
    with pytest.raises(ValueError, match=f'at least {size}x{size} px'):
        network(torch.rand(1, 3, 64, size - 1), torch.rand(1, 3, 64, size - 1))
    with pytest.raises(RuntimeError):
        list(network._features(torch.rand(1, 3, size - 1, size - 1)))
