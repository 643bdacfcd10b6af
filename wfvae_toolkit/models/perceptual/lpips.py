"""LPIPS 0.1 with the lpips package's heads on torchvision's ImageNet trunks."""

from .network import PerceptualNetwork, check_net
from .weights import find_trunk, read_package_weights, read_weights

TRUNK_FILES = {'alex': 'alexnet-owt-7be5be79.pth', 'vgg': 'vgg16-397923af.pth'}
MIN_SIZES = {'alex': 31, 'vgg': 16}


class LPIPS(PerceptualNetwork):
    """LPIPS 0.1 (Zhang et al. 2018): two (B, 3, H, W) in [-1, 1] -> (B,) distances.

    Args:
        net (str): 'alex' (published comparisons) or 'vgg' (training losses).
        trunk_weights (str): torchvision's file of AlexNet or VGG16 weights; by default the one in torch.hub's
            folder, downloaded by rank 0 if it is not there.

    Raises:
        PerceptualWeightsMissing: there is no file of weights, and the download failed.
    """

    def __init__(self, net='alex', trunk_weights=None):
        check_net(net)
        heads = read_package_weights('lpips', f'weights/v0.1/{net}.pth', distribution='lpips')
        path = find_trunk(TRUNK_FILES[net], trunk_weights)
        super().__init__(net, shift_tolerant=False, min_size=MIN_SIZES[net])
        self.load(read_weights(path), 'features', source=path)
        self.load_heads(heads)
