"""Metrics with a stated protocol: a function each, a thin class around it, and the evaluator that averages."""

from .equivariance import RotationEquivariance, ScaleEquivariance
from .evaluator import (
    EvaluationSummary,
    ReconstructionEvaluator,
    format_table,
    write_results,
)
from .folders import compare_folders
from .latents import ActiveChannels, LatentChannels, LatentKL, LatentNoise
from .metric import EvaluationBatch, Metric
from .perceptual import LPIPS, STLPIPS
from .psnr import PSNR, psnr
from .run import evaluate
from .spectrum import LatentSpectrum
from .ssim import SSIM, ssim

__all__ = [
    'LPIPS', 'PSNR', 'SSIM', 'STLPIPS', 'ActiveChannels', 'EvaluationBatch', 'EvaluationSummary', 'LatentChannels',
    'LatentKL', 'LatentNoise', 'LatentSpectrum', 'Metric', 'ReconstructionEvaluator', 'RotationEquivariance',
    'ScaleEquivariance', 'compare_folders', 'evaluate', 'format_table', 'psnr', 'ssim', 'write_results',
]
