"""Flow matching on latents: the loss, its value by time step, and the sampler.

A latent x of data (time 0) and Gaussian noise n (time 1) are joined by the line z(t) = (1 - t) x + t n, whose velocity
is n - x (rectified flow: Liu et al. 2022, arXiv 2209.03003; Lipman et al. 2022, arXiv 2210.02747). A network predicts
it from z(t) and t; following the predictions from noise back to time 0 makes a new latent.
"""

import math

import torch
from mmengine.model import BaseModel

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal

from .transformer import FlowTransformer

BINS = 10  # of the time, for the loss by time step
NO_CLASS = 0.1  # share of training labels that become "no class", for guidance


class LatentFlow(BaseModel):
    """The network in training: ``forward(latent, label, mode='loss')`` gives ``{'loss': scalar}``.

    Args:
        latent_shape (tuple): (C, h, w).
        classes (int): number of classes; 0: without.
        **network: settings of `FlowTransformer`.
    """

    def __init__(self, latent_shape, classes=0, **network):
        super().__init__()
        self.latent_shape, self.classes = tuple(latent_shape), classes
        self.network = FlowTransformer(latent_shape, classes, **network)

    def forward(self, latent, label=None, mode='loss'):
        if mode != 'loss':
            raise SettingError(f'mode={mode!r}: LatentFlow has only the loss; `sample` makes latents')
        count = len(latent)
        # One time in each of as many equal parts of [0, 1]: the loss of a batch varies less (Kingma et al. 2021).
        t = (torch.rand(1) + torch.arange(count) / count).to(latent) % 1.0
        if self.classes:
            label = torch.where(torch.rand(count).to(latent) < NO_CLASS, self.classes, label)
        error = velocity_error(self.network, latent, torch.randn(latent.shape).to(latent), t, label)
        return {'loss': error.mean()}


def velocity_error(network, latents, noise, t, labels=None):
    """Mean squared error of the predicted velocity over the values of each latent, (B,)."""
    time = t.view(-1, 1, 1, 1)
    predicted = network((1 - time) * latents + time * noise, t, labels)
    return (predicted - (noise - latents)).square().flatten(1).mean(1)


def white_noise_error(t):
    """The least error on latents that are white noise of mean 0 and std 1: nothing in them can be learnt.

    The best prediction of n - x from z(t) is linear then, and leaves 1 / ((1 - t)^2 + t^2). Its mean over t is pi / 2.
    """
    return 1.0 / ((1 - t)**2 + t**2)


@torch.inference_mode()
def losses_by_time(network, latents, labels=None, seed=0, batch_size=64):
    """The flow loss on latents (N, C, h, w), a list of one mean for each of `BINS` equal parts of [0, 1].

    Times and noise depend only on the seed and the latent's number. Models with latents of one shape are therefore
    scored with the same times and noise.
    """
    noise = standard_normal(latents.shape[1:], [mix_seed('evaluation', seed, number) for number in range(len(latents))])
    shares = torch.rand(len(latents), generator=torch.Generator().manual_seed(mix_seed('evaluation', seed)))
    device, found = next(network.parameters()).device, []
    for part in range(BINS):
        errors = [velocity_error(network, latents[rows].to(device), noise[rows].to(device),
                                 ((part + shares[rows]) / BINS).to(device), None if labels is None else
                                 labels[rows].to(device)).double().cpu()
                  for rows in torch.arange(len(latents)).split(batch_size)]
        found.append(torch.cat(errors).mean().item())
    return found


def share_of_white_noise(losses):
    """`losses_by_time` -> mean loss over `white_noise_error`'s: 1 is nothing learnt, lower is better."""
    return (sum(losses) / len(losses)) / (math.pi / 2)


@torch.inference_mode()
def sample(network, noise, labels=None, steps=12, guidance=1.0):
    """Noise (B, C, h, w) -> latents as those trained on, by ``steps`` steps of Heun's method from time 1 to 0.

    Args:
        network (FlowTransformer): trained.
        noise (Tensor): standard normal.
        labels (Tensor): (B,) classes of a network that has some; None: no class.
        steps (int): two predictions each, one in the last.
        guidance (float): classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): 1 is without.

    Raises:
        SettingError: guidance without classes.
    """
    if guidance != 1.0 and labels is None:
        raise SettingError(f'guidance={guidance}: only with classes; leave it at 1')

    def velocity(latents, t):
        times = torch.full((len(latents),), t, device=latents.device)
        with_class = network(latents, times, labels)
        if guidance == 1.0:
            return with_class
        without = network(latents, times)
        return without + guidance * (with_class - without)

    latents = noise
    times = torch.linspace(1, 0, steps + 1).tolist()
    for now, then in zip(times, times[1:], strict=False):
        first = velocity(latents, now)
        ahead = latents + (then - now) * first
        # At time 0 the prediction is of no use: Euler's step ends there.
        latents = ahead if then == 0 else latents + (then - now) * (first + velocity(ahead, then)) / 2
    return latents
