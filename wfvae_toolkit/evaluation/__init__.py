"""Metrics with a stated protocol: a function each, a thin class around it, and the evaluator that averages."""

from .channel_prefix import PSNRByChannels
from .equivariance import RotationEquivariance, ScaleEquivariance
from .evaluator import (
    EvaluationSummary,
    ReconstructionEvaluator,
    write_results,
)
from .folders import compare_by_protocols, compare_folders
from .interpolated import InterpolatedFrechetDistance
from .latent_metrics import ActiveChannels, LatentChannels, LatentKL, LatentNoise
from .loss_value import LossValue
from .metric import EvaluationBatch, Metric, UnfitPicture
from .other_libraries import PictureFunction
from .perceptual import LPIPS, STLPIPS
from .protocols import PROTOCOLS
from .psnr import PSNR, PooledPSNR, psnr
from .run import (
    NothingScored,
    build_evaluation_data,
    check_scored,
    evaluate,
    evaluate_protocols,
    reconstruct,
)
from .set_distances import FrechetDistance, KernelDistance, PrecisionRecall
from .spectrum import LatentSpectrum
from .ssim import SSIM, ssim
from .tables import format_protocols, format_table
from .text import TextSimilarity
from .whole_set import WholeSetMetric, WholeSetScore
from .worst import describe_faults, describe_worst, worst_images

__all__ = [
    'ActiveChannels', 'EvaluationBatch', 'EvaluationSummary', 'FrechetDistance', 'InterpolatedFrechetDistance',
    'KernelDistance', 'LPIPS', 'LatentChannels', 'LatentKL', 'LatentNoise', 'LatentSpectrum', 'LossValue', 'Metric',
    'NothingScored', 'PROTOCOLS', 'PSNR', 'PSNRByChannels', 'PictureFunction', 'PooledPSNR', 'PrecisionRecall',
    'ReconstructionEvaluator', 'RotationEquivariance', 'SSIM', 'STLPIPS', 'ScaleEquivariance', 'TextSimilarity',
    'UnfitPicture', 'WholeSetMetric', 'WholeSetScore', 'build_evaluation_data', 'check_scored',
    'compare_by_protocols', 'compare_folders', 'describe_faults', 'describe_worst', 'evaluate',
    'evaluate_protocols', 'format_protocols', 'format_table', 'psnr', 'reconstruct', 'ssim', 'worst_images',
    'write_results',
]


def __getattr__(name):
    if name == 'write_worst':
        raise ImportError('write_worst is gone: tools/test.py and compare_folders(keep=FOLDER) write the worst '
                          'images to pictures/, and pictures.json lists them')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
