import torch
from torch import nn

from wfvae_toolkit.models.activations import ActivationMonitor


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())
        self.decoder = nn.Sequential(nn.Identity(), nn.Conv2d(4, 3, 1))

    def forward(self, x):
        return self.decoder(100 * self.encoder(x))


def test_the_largest_input_and_output_of_any_module_is_noted_with_its_place():
    network, x = Halves(), torch.randn(2, 3, 5, 5)
    inner = network.encoder[0](x).abs().max().item()
    outer = (100 * network.encoder(x)).abs().max().item()
    with ActivationMonitor(network) as monitor:
        expected = network(x)
        network(x / 2)
    found = monitor.largest()
    assert found['encoder']['value'] == max(inner, x.abs().max().item())
    # The factor is no module; what it makes enters the next one.
    assert found['decoder'] == {'value': outer, 'module': 'input of decoder.0'}
    assert torch.equal(network(10 * x), network(10 * x))
    assert monitor.largest() == found
    assert torch.equal(network(x), expected)


def test_the_hooks_are_gone_afterwards():
    network = Halves()
    with ActivationMonitor(network):
        pass
    assert not any(module._forward_hooks for module in network.modules())
