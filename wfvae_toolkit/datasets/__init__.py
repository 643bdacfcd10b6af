"""Folders of pictures -> batches of uint8 (B, 3, H, W), the same on any number of workers and ranks."""

from .bad_files import BadFile, BadFileLog, TooManyBadFiles
from .base import ImageDataset, Sample, SampleError, SampleKey, evaluation_key
from .folder import ImageFolder
from .images import MAX_PIXELS, BadImage, load_rgb, read_size, rgb_colour, to_rgb
from .loader import Batch, LoaderSettings, build_dataloader, collate_evaluation, collate_training
from .manifest import ImageManifest, write_manifest
from .mixed import MixedDataset
from .order import EpochOrder, MixedOrder
from .paths import PathList
from .sampler import PositionSampler, SequentialSampler
from .scan import EXTENSIONS, scan_folder
from .transforms import CenterCrop, RandomCrop, RandomFlip, ResizeShortSide, was_upsampled

__all__ = [
    'BadFile', 'BadFileLog', 'BadImage', 'Batch', 'CenterCrop', 'EXTENSIONS', 'EpochOrder', 'ImageDataset',
    'ImageFolder', 'ImageManifest', 'LoaderSettings', 'MAX_PIXELS', 'MixedDataset', 'MixedOrder', 'PathList',
    'PositionSampler', 'RandomCrop', 'RandomFlip', 'ResizeShortSide', 'Sample', 'SampleError', 'SampleKey',
    'SequentialSampler', 'TooManyBadFiles', 'build_dataloader', 'collate_evaluation', 'collate_training',
    'evaluation_key', 'load_rgb', 'read_size', 'rgb_colour', 'scan_folder', 'to_rgb', 'was_upsampled',
    'write_manifest',
]
