"""Flow matching on cached latents, and a comparison of autoencoders by what it makes of their latents."""

from .flow import LatentFlow, losses_by_time, sample, share_of_white_noise, white_noise_error
from .train import Flow, FlowSettings, load_flow, train_flow
from .transformer import FlowTransformer

__all__ = ['Flow', 'FlowSettings', 'FlowTransformer', 'LatentFlow', 'load_flow', 'losses_by_time', 'sample',
           'share_of_white_noise', 'train_flow', 'white_noise_error']
