"""Every picture under a folder."""

from pathlib import Path

from ..registry import DATASETS
from ..utils.errors import MissingFile, SettingError
from .base import ImageDataset
from .images import MAX_PIXELS
from .paths import PathList
from .scan import EXTENSIONS, scan_folder


@DATASETS.register_module()
class ImageFolder(ImageDataset):
    """The pictures under ``data_root``, subfolders included, sorted by relative POSIX path.

    Args:
        data_root (str | Path): the folder.
        extensions (sequence of str): which files are pictures, in any case.
        scan_cache (str | Path): a file outside of ``data_root`` that keeps the listings of folders, so that the next
            start lists only those that changed; see `scan_folder`.
        option (str): name of the setting that holds ``data_root``, for the message.
        pipeline, on_bad, background, max_pixels, cache_mib, decoder: see `ImageDataset`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no file under it has one of the extensions.
    """

    def __init__(self, data_root: str | Path, pipeline=(), extensions=EXTENSIONS, on_bad='substitute',
                 background: str | tuple = 'white', max_pixels: float = MAX_PIXELS, cache_mib: float = 0,
                 decoder='exact', scan_cache: str | Path | None = None,
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        super().__init__(data_root, pipeline, on_bad, background, max_pixels, cache_mib, decoder)
        if isinstance(extensions, str):
            raise TypeError(f'extensions={extensions!r}: use a list such as [{extensions!r}]')
        if not self.data_root.is_dir():
            raise MissingFile(f'there is no folder {str(data_root)!r}: set {option}')
        self.paths = PathList(scan_folder(self.data_root, extensions, scan_cache))
        if not self.paths:
            raise SettingError(f'no image under {str(data_root)!r} ({option}); read are files ending in '
                               f'{", ".join(extensions)}')

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]
