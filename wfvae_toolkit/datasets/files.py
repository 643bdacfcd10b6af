"""Pictures that a command names: one file, a folder or a manifest."""

from pathlib import Path

from ..utils.errors import MissingFile, SettingError
from .base import ImageDataset
from .folder import ImageFolder
from .manifest import ImageManifest
from .paths import PathList


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


def open_images(data, pipeline=(), allow_outside=False):
    """A folder, a manifest (``.jsonl``) or one picture -> a dataset for evaluation: bad files are reported.

    Args:
        data (str | Path): which.
        pipeline (sequence of dict): transforms; see `fixed_pipeline`.
        allow_outside (bool): of a manifest; see `ImageManifest`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: no picture in it.
    """
    data = Path(data)
    settings = dict(pipeline=pipeline, on_bad='report')
    if data.is_dir():
        return ImageFolder(data, option='the path given', **settings)
    if not data.exists():
        raise MissingFile(f'there is no {str(data)!r}: name a folder, a manifest (.jsonl) or a picture')
    if data.suffix == '.jsonl':
        return ImageManifest(data, option='the path given', allow_outside=allow_outside, **settings)
    return ImageFiles(data.parent, [data.name], **settings)


def count_images(dataset, max_images=None):
    """How many of its first pictures are asked for; SettingError below 1."""
    if max_images is not None and max_images < 1:
        raise SettingError(f'{max_images} images: use at least 1, or leave it out for all')
    return min(len(dataset), max_images or len(dataset))
