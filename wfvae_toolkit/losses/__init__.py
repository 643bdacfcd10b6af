"""Losses of both networks: one small class for each row of the config."""

from .adversarial import AdversarialLoss, FeatureMatchingLoss, balanced_weight, mean_score
from .base import Loss, Step
from .discriminator import DiscriminatorLoss, DiscriminatorStep, LeCamLoss, R1Penalty, R2Penalty
from .distillation import DistillationLoss
from .kl import KLLoss
from .perceptual import FeatureLoss, LPIPSLoss, STLPIPSLoss, as_constant
from .pixel import L1Loss, L2Loss, MaskedL1Loss, SSIMLoss
from .spectral import FocalFrequencyLoss, HighPassLoss
from .wavelet import SpectralRegularizationLoss, WaveletBandLoss, WaveletFlowLoss

__all__ = ['AdversarialLoss', 'DiscriminatorLoss', 'DiscriminatorStep', 'DistillationLoss', 'FeatureLoss',
           'FeatureMatchingLoss', 'FocalFrequencyLoss', 'HighPassLoss', 'KLLoss', 'L1Loss', 'L2Loss', 'LPIPSLoss',
           'LeCamLoss', 'Loss', 'MaskedL1Loss', 'R1Penalty', 'R2Penalty', 'SSIMLoss', 'STLPIPSLoss',
           'SpectralRegularizationLoss', 'Step', 'WaveletBandLoss', 'WaveletFlowLoss', 'as_constant',
           'balanced_weight', 'mean_score']
