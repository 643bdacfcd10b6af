"""A folder of pictures as a dataset."""

import tarfile
import zipfile
from pathlib import Path

from ..registry import DATASETS
from ..utils.errors import MissingFile, SettingError
from .base import ImageDataset
from .images import MAX_PIXELS, readable_extensions
from .paths import PathList
from .scan import describe_scan, scan_tree


@DATASETS.register_module()
class ImageFolder(ImageDataset):
    """The pictures under ``data_root``, subfolders included, sorted by relative POSIX path.

    Args:
        data_root (str | Path): the folder.
        extensions (sequence of str): suffixes of pictures, in any case; None: those of the formats that the installed
            Pillow decodes. `remarks` counts the other files.
        scan_cache (str | Path): a file outside of ``data_root`` that keeps the listings of folders. The next start then
            lists only folders that have changed; see `scan_tree`.
        option (str): name of the setting that holds ``data_root``, for the message.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb: see `ImageDataset`.

    Raises:
        MissingFile: there is no such folder.
        SettingError: no file under it has one of the extensions.
    """

    is_scanned = True

    def __init__(self, data_root: str | Path, pipeline=(), extensions: list | None = None, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', scan_cache: str | Path | None = None, convert_to_srgb=False,
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        super().__init__(data_root, pipeline, on_bad, background, max_pixels, cache_mib, decoder, convert_to_srgb)
        if isinstance(extensions, str):
            raise TypeError(f'extensions={extensions!r}: use a list such as [{extensions!r}]')
        if not self.data_root.is_dir():
            raise MissingFile(f'there is no folder {str(data_root)!r}: set {option}{_hint(self.data_root)}')
        paths, self.passed_over = scan_tree(self.data_root, extensions, scan_cache and Path(scan_cache).expanduser())
        self.paths = PathList(paths)
        if not self.paths:
            raise SettingError('; '.join([
                f'no image under {str(data_root)!r} ({option}); files are read that end in '
                f'{", ".join(readable_extensions() if extensions is None else extensions)}', *self.remarks()]))

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]

    def remarks(self):
        return describe_scan(self.data_root, len(self), self.passed_over)


def is_archive(path):
    """Whether there is a tar or zip file."""
    return path.is_file() and (tarfile.is_tarfile(path) or zipfile.is_zipfile(path))


def is_shard(path):
    """Whether there is a tar file without compression, which `ImageShards` reads."""
    try:
        with tarfile.open(path, 'r:'):
            return True
    except (OSError, tarfile.TarError):
        return False


def _hint(path):
    """End of a message on a missing folder: what to do with the file at ``path``; '' if there is no file."""
    if is_shard(path):
        return ". It is a tar file: dataset.type='ImageShards' reads those"
    if is_archive(path):
        return '. It is an archive: unpack it and give the folder'
    if path.suffix == '.jsonl' and path.exists():
        return ". It is a file: dataset.type='ImageManifest' reads manifests"
    return '. It is a file' if path.exists() else ''
