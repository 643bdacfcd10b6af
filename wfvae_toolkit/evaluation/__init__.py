"""Metrics with a stated protocol: a function each, a thin class around it, and the evaluator that averages."""

from .channel_prefix import PSNRByChannels
from .equivariance import RotationEquivariance, ScaleEquivariance
from .evaluator import (
    EvaluationSummary,
    ReconstructionEvaluator,
    format_table,
    write_results,
)
from .folders import compare_folders
from .latent_metrics import ActiveChannels, LatentChannels, LatentKL, LatentNoise
from .metric import EvaluationBatch, Metric, UnfitPicture
from .perceptual import LPIPS, STLPIPS
from .psnr import PSNR, psnr
from .run import NothingScored, check_scored, evaluate, reconstruct
from .spectrum import LatentSpectrum
from .ssim import SSIM, ssim
from .worst import describe_worst, worst_images, write_worst

__all__ = [
    'LPIPS', 'PSNR', 'PSNRByChannels', 'SSIM', 'STLPIPS', 'ActiveChannels', 'EvaluationBatch', 'EvaluationSummary',
    'LatentChannels', 'LatentKL', 'LatentNoise', 'LatentSpectrum', 'Metric', 'NothingScored',
    'ReconstructionEvaluator', 'RotationEquivariance', 'ScaleEquivariance', 'UnfitPicture', 'check_scored',
    'compare_folders', 'describe_worst', 'evaluate', 'format_table', 'psnr', 'reconstruct', 'ssim', 'worst_images',
    'write_worst',
    'write_results',
]
