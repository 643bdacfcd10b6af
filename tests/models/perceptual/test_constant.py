import torch
from torch import nn

from wfvae_toolkit.models.perceptual.constant import as_constant


def test_any_network_becomes_a_constant():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    expected = network.eval()(torch.ones(2, 3)).detach()
    owner = nn.ModuleDict({'row': as_constant(network.train())}).train()
    assert not owner.state_dict()
    assert not list(owner.parameters())
    x = torch.ones(2, 3, requires_grad=True)
    assert torch.equal(owner['row'](x), expected)
    owner['row'](x).sum().backward()
    assert x.grad.any()
    assert owner['row'].double()(x.double()).dtype == torch.float64
