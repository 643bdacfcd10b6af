"""Shift-tolerant LPIPS with the complete trained weights of the package stlpips-pytorch."""

from .network import PerceptualNetwork, check_net
from .weights import read_package_weights

MIN_SIZES = {'alex': 21, 'vgg': 18}


class STLPIPS(PerceptualNetwork):
    """ST-LPIPS (Ghildyal and Liu, ECCV 2022): two (B, 3, H, W) in [-1, 1] -> (B,) distances; needs no download.

    Args:
        net (str): 'alex' or 'vgg'.

    Raises:
        PerceptualWeightsMissing: stlpips-pytorch is not installed.
    """

    def __init__(self, net='alex'):
        check_net(net)
        name = f'weights/vST0.0/{net}_shift_tolerant.pth'
        state = read_package_weights('stlpips_pytorch', name, distribution='stlpips-pytorch')
        super().__init__(net, shift_tolerant=True, min_size=MIN_SIZES[net])
        self.load(state, r'net\.slice\d', source=f'stlpips_pytorch/{name}')
        self.load_heads(state)
