"""Metrics with a stated protocol: a function each, a thin class around it, and the evaluator that averages."""

from .evaluator import (
    EvaluationSummary,
    ReconstructionEvaluator,
    format_table,
    write_results,
)
from .folders import compare_folders
from .metric import EvaluationBatch, Metric
from .perceptual import LPIPS, STLPIPS
from .psnr import PSNR, psnr
from .run import evaluate
from .ssim import SSIM, ssim

__all__ = [
    'LPIPS', 'PSNR', 'SSIM', 'STLPIPS', 'EvaluationBatch', 'EvaluationSummary', 'Metric', 'ReconstructionEvaluator',
    'compare_folders', 'evaluate', 'format_table', 'psnr', 'ssim', 'write_results',
]
