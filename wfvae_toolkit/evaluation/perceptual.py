"""LPIPS and STLPIPS as metrics."""

from wfvae_toolkit.models import perceptual
from wfvae_toolkit.registry import METRICS

from .metric import Metric, UnfitPicture

_NET_NAMES = {'alex': 'AlexNet', 'vgg': 'VGG16'}


class _PerceptualMetric(Metric):
    higher_is_better = False

    def __init__(self, network, title):
        super().__init__()
        self.network = network
        self.description = f'{title}, {_NET_NAMES[network.net]}, not spatial'

    def measure(self, batch):
        (height, width), least = batch.target.shape[-2:], self.network.min_size
        if min(height, width) < least:
            raise UnfitPicture(f'{width}x{height} px: {type(self).__name__} net={self.network.net!r} takes images of '
                               f'at least {least}x{least} px')
        return self.network((2 * batch.reconstruction).sub_(1), (2 * batch.target).sub_(1))


@METRICS.register_module()
class LPIPS(_PerceptualMetric):
    """LPIPS 0.1, AlexNet by default as in published tables; settings as in ``models.perceptual.LPIPS``.

    Raises:
        PerceptualWeightsMissing: the trunk's weights are not here and cannot be downloaded.
    """

    def __init__(self, net='alex', trunk_weights=None):
        super().__init__(perceptual.LPIPS(net, trunk_weights), 'LPIPS 0.1')


@METRICS.register_module()
class STLPIPS(_PerceptualMetric):
    """Shift-tolerant LPIPS, another scale than LPIPS; settings as in ``models.perceptual.STLPIPS``."""

    def __init__(self, net='alex'):
        super().__init__(perceptual.STLPIPS(net), 'ST-LPIPS (shift-tolerant)')
