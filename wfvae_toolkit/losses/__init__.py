"""Losses of the autoencoder's turn: one small class per row of the config."""

from .adversarial import AdversarialLoss, FeatureMatchingLoss, balanced_weight, mean_score
from .base import Loss, Step
from .distillation import DistillationLoss
from .kl import KLLoss
from .perceptual import LPIPSLoss, STLPIPSLoss, as_constant
from .pixel import L1Loss, L2Loss
from .wavelet import WaveletFlowLoss

__all__ = ['AdversarialLoss', 'DistillationLoss', 'FeatureMatchingLoss', 'KLLoss', 'L1Loss', 'L2Loss', 'LPIPSLoss',
           'Loss', 'STLPIPSLoss', 'Step', 'WaveletFlowLoss', 'as_constant', 'balanced_weight', 'mean_score']
