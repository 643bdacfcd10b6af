"""Datasets of pictures -> batches of uint8 (B, 3, H, W), equal for any number of workers and ranks."""

from wfvae_toolkit.utils.moved import moved_names

from .bad_files import BadFile, BadFileLog, TooManyBadFiles
from .base import ImageDataset, NoUsableFile, Sample, SampleError, SampleKey, evaluation_key
from .buckets import AspectBuckets
from .extras import Mask
from .folder import ImageFolder
from .image_files import ImageFiles, count_images, open_images
from .images import (
    MAX_PIXELS,
    BadImage,
    embedded_profile,
    load_rgb,
    read_size,
    readable_extensions,
    rgb_colour,
    to_rgb,
)
from .loader import (
    Batch,
    LoaderSettings,
    PictureCounts,
    build_dataloader,
    collate_evaluation,
    collate_training,
    load_batches,
)
from .manifest import ImageManifest, write_manifest
from .mixed import MixedDataset
from .order import BucketOrder, EpochOrder, MixedOrder, WindowOrder
from .paths import PathList
from .sampler import BlockSampler, PositionSampler, SequentialSampler
from .scan import scan_folder
from .shard_writer import write_shards
from .shards import ImageShards
from .synthetic import SyntheticImages
from .tables import ImageTable
from .transforms import (
    CenterCrop,
    CropToSize,
    RandomCrop,
    RandomFlip,
    ResizeShortSide,
    describe_pipeline,
    fixed_pipeline,
    was_upsampled,
)
from .worker_watch import WatchedLoader, WorkerLost

__all__ = [
    'AspectBuckets', 'BadFile', 'BadFileLog', 'BadImage', 'Batch', 'BlockSampler', 'BucketOrder', 'CachedLatents',
    'CenterCrop', 'CropToSize', 'EpochOrder', 'ImageDataset', 'ImageFiles', 'ImageFolder', 'ImageManifest',
    'ImageShards', 'ImageTable', 'LatentCacheError', 'LatentIndex', 'LoaderSettings', 'MAX_PIXELS', 'Mask',
    'MixedDataset', 'MixedOrder', 'NoUsableFile', 'PathList', 'PictureCounts', 'PositionSampler', 'RandomCrop',
    'RandomFlip', 'ResizeShortSide', 'Sample', 'SampleError', 'SampleKey', 'SequentialSampler', 'SyntheticImages',
    'TooManyBadFiles', 'WatchedLoader', 'WindowOrder', 'WorkerLost', 'build_dataloader', 'collate_evaluation',
    'collate_training', 'count_images', 'describe_pipeline', 'embedded_profile', 'evaluation_key', 'fixed_pipeline',
    'load_batches', 'load_rgb', 'open_images', 'read_size', 'readable_extensions', 'rgb_colour', 'scan_folder',
    'to_rgb', 'was_upsampled', 'write_manifest', 'write_shards',
]

__getattr__ = moved_names(__name__, dict.fromkeys(('CachedLatents', 'LatentCacheError', 'LatentIndex'),
                                                  'wfvae_toolkit.latents'))
