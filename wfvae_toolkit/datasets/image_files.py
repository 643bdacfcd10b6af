"""Open the pictures that a command names: one file, a folder, a manifest, tar shards or a table, also by URL."""

import logging
from pathlib import Path
from urllib.parse import urlsplit

from ..utils import distributed
from ..utils.errors import MissingFile, SettingError
from ..utils.urls import is_url
from .base import ImageDataset
from .folder import ImageFolder, is_archive, is_shard
from .manifest import ImageManifest
from .paths import PathList
from .shard_files import expand_braces, is_pattern
from .shards import ImageShards
from .tables import ImageTable

_TABLES = ('.parquet', '.arrow')


class ImageFiles(ImageDataset):
    """The pictures at ``paths``, relative to ``data_root``, in that order.

    Args:
        data_root (str | Path): a folder.
        paths (iterable of str): POSIX.
        **settings: see `ImageDataset`.
    """

    def __init__(self, data_root, paths, **settings):
        super().__init__(data_root, **settings)
        self.paths = PathList(paths)

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]


def open_images(data, pipeline=(), allow_outside=False, convert_to_srgb=False):
    """A folder, a manifest (``.jsonl``), tar shards, a table or one picture -> a dataset that reports bad files.

    A folder that holds no picture, but tar files, is one of shards, and one of parquet or Arrow files is a table. The
    logger ``wfvae_toolkit`` warns once of what is not used.

    Args:
        data (str | Path): path of the folder, manifest, shard, table or picture, or a pattern as of `ImageShards`; or a
            URL of shards or parquet.
        pipeline (sequence of dict): transforms; see `fixed_pipeline`.
        allow_outside (bool): of a manifest; see `ImageManifest`.
        convert_to_srgb (bool): see `ImageDataset`.

    Raises:
        MissingFile: there is nothing of that name.
        SettingError: there is no picture in it.
        StorageError: a URL cannot be reached.
    """
    settings = dict(pipeline=pipeline, on_bad='report', convert_to_srgb=convert_to_srgb)
    if is_url(data):
        dataset = _open_url(data, dict(option='the path given', **settings))
        say_remarks(dataset)
        return dataset
    data = Path(data).expanduser()
    if data.is_dir() or is_shard(data) or data.suffix in _TABLES and data.is_file() or is_pattern(data):
        dataset = _open_many(data, dict(option='the path given', **settings))
        say_remarks(dataset)
        return dataset
    if not data.exists():
        raise MissingFile(f'there is no {str(data)!r}: name a folder, a manifest (.jsonl), tar shards, a '
                          'table (.parquet) or a picture')
    if is_archive(data):
        raise MissingFile(f'{data} is an archive, not a folder: unpack it and name the folder')
    if data.suffix == '.jsonl':
        return ImageManifest(data, option='the path given', allow_outside=allow_outside, **settings)
    return ImageFiles(data.parent, [data.name], **settings)


def _open_many(data, settings):
    if not data.is_dir():
        return (ImageTable if data.suffix in _TABLES else ImageShards)(data, **settings)
    try:
        return ImageFolder(data, **settings)
    except SettingError:
        # Shards first: img2dataset writes a table of what it loaded beside each.
        for suffix, kind in {'.tar': ImageShards, **dict.fromkeys(_TABLES, ImageTable)}.items():
            if next(data.rglob(f'*{suffix}'), None) is not None:
                return kind(data, **settings)
        raise


def _open_url(url, settings):
    """Shards or a table by the suffix of a URL; of a folder, shards if there are any."""
    suffix = Path(urlsplit(expand_braces(url)[0]).path).suffix.lower()
    if suffix == '.parquet':
        return ImageTable(url, **settings)
    try:
        return ImageShards(url, **settings)
    except SettingError as error:
        if 'it holds' not in str(error) or '.parquet' not in str(error):  # of `find_remote`
            raise
        return ImageTable(url, **settings)


def say_remarks(dataset, say=None):
    """Log the lines of ``dataset.remarks()``, if it has that method, once for all ranks.

    Args:
        dataset (Dataset): as of `ImageDataset`.
        say (callable): called with each line; by default the logger ``wfvae_toolkit`` warns.
    """
    if distributed.is_main():
        for line in getattr(dataset, 'remarks', list)():
            (say or logging.getLogger('wfvae_toolkit').warning)(line)


def count_images(dataset, max_images=None):
    """Number of pictures to use: those of the dataset, or ``max_images`` if fewer; SettingError below 1."""
    if max_images is not None and max_images < 1:
        raise SettingError(f'{max_images} images: use at least 1, or leave it out for all')
    return min(len(dataset), max_images or len(dataset))
