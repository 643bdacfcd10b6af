"""How much of a picture the first latent channels hold (DC-AE 1.5, arXiv 2508.00413)."""

from wfvae_toolkit.models.latent_transforms import check_available, checked_counts, keep_channels
from wfvae_toolkit.registry import METRICS

from .latent_metrics import decode_pictures
from .metric import Metric
from .psnr import psnr


@METRICS.register_module()
class PSNRByChannels(Metric):
    """PSNR of the picture that is decoded from the first c latent channels, the others zero; a column for each c.

    The decoded picture is clamped and not rounded to 8 bits. A model that was trained without ChannelPrefix has no
    order of its channels, so its numbers say little.

    Args:
        channels (tuple[int]): numbers of channels to keep, such as (4, 8, 16).

    Raises:
        SettingError: none, or one below 1; while measuring: one above the number of channels that there are.
    """

    higher_is_better = True
    description = 'PSNR in dB from the first c latent channels, the others zero, not rounded to 8 bits'

    def __init__(self, channels):
        super().__init__()
        self.channels = checked_counts('PSNRByChannels', channels)

    def measure(self, batch):
        latents = batch.need('latents')
        check_available('PSNRByChannels', self.channels, latents.shape[1])
        return {str(count): psnr(decode_pictures(batch, keep_channels(latents, count)), batch.target)
                for count in self.channels}
