"""Agreement of the encoder's and the decoder's wavelet pyramids (WF-VAE, arXiv 2411.17459, section 3.2)."""

from wfvae_toolkit.registry import LOSSES
from wfvae_toolkit.utils.errors import SettingError

from .base import Loss, sum_per_image


@LOSSES.register_module()
class WaveletFlowLoss(Loss):
    """sum over stages of sum |encoder bands - decoder bands| per image.

    Raises:
        SettingError: the autoencoder gives no bands (no energy flow), or encoder and decoder give different numbers.
    """

    def __init__(self, weight=0.1):
        super().__init__(weight)

    def forward(self, step):
        encoder, decoder = step.encoder_bands, step.decoder_bands[::-1]
        if not encoder or len(encoder) != len(decoder):
            raise SettingError(f'the autoencoder gives {len(encoder)} encoder and {len(decoder)} decoder bands; the '
                               'wavelet loss needs as many of both: turn energy_flow on or set losses.wavelet=None')
        return sum(sum_per_image((up - down).abs()) for up, down in zip(encoder, decoder, strict=True))
