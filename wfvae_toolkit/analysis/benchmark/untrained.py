"""LPIPS with random weights: its arithmetic, for a machine without the files of its weights."""

import torch
from torch import nn

from wfvae_toolkit.evaluation.perceptual import _PerceptualMetric
from wfvae_toolkit.losses.perceptual import _PerceptualLoss
from wfvae_toolkit.models.perceptual.lpips import MIN_SIZES
from wfvae_toolkit.models.perceptual.network import PerceptualNetwork


@torch.no_grad()
def untrained_network(net):
    """LPIPS' network ``net``, 'alex' or 'vgg', with the same random weights every time."""
    network = PerceptualNetwork(net, shift_tolerant=False, min_size=MIN_SIZES[net])
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu', generator=generator)
            nn.init.zeros_(module.bias)
    for head in network.heads:
        head.fill_(1 / len(head))
    return network


class UntrainedLPIPSLoss(_PerceptualLoss):
    """LPIPSLoss with random weights."""

    def __init__(self, net='vgg', weight=1.0, crop=None):
        super().__init__(untrained_network(net), weight, crop)


class UntrainedLPIPS(_PerceptualMetric):
    """The metric LPIPS with random weights."""

    def __init__(self, net='alex'):
        super().__init__(untrained_network(net), 'LPIPS with random weights')
