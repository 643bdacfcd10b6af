"""Every picture under a folder."""

import os
from pathlib import Path

from ..registry import DATASETS
from ..utils.errors import MissingFile, SettingError
from .base import ImageDataset
from .images import MAX_PIXELS

EXTENSIONS = ('jpg', 'jpeg', 'png', 'webp', 'bmp', 'tif', 'tiff')


@DATASETS.register_module()
class ImageFolder(ImageDataset):
    """The pictures under ``data_root``, subfolders included, sorted by relative POSIX path.

    Args:
        data_root (str | Path): the folder.
        extensions (sequence of str): which files are pictures, in any case.
        option (str): name of the setting that holds ``data_root``, for the message.
        pipeline, on_bad, background, max_pixels, cache_mib: see `ImageDataset`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no file under it has one of the extensions.
    """

    def __init__(self, data_root, pipeline=(), extensions=EXTENSIONS, on_bad='substitute', background='white',
                 max_pixels=MAX_PIXELS, cache_mib=0,
                 option='train_dataloader.dataset.data_root or val_dataloader.dataset.data_root'):
        super().__init__(data_root, pipeline, on_bad, background, max_pixels, cache_mib)
        if isinstance(extensions, str):
            raise TypeError(f'extensions={extensions!r}: use a list such as [{extensions!r}]')
        if not self.data_root.is_dir():
            raise MissingFile(f'there is no folder {str(data_root)!r}: set {option}')
        self.paths = scan_folder(self.data_root, extensions)
        if not self.paths:
            raise SettingError(f'no image under {str(data_root)!r} ({option}); read are files ending in '
                               f'{", ".join(extensions)}')

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]


def scan_folder(root, extensions=EXTENSIONS):
    """Relative POSIX paths of the files under ``root`` with one of the extensions, in any case, sorted.

    Links to folders are followed, save one that leads back to a folder it lies in. Files that cannot
    be opened are listed: they are reported when read, not dropped in silence.
    """
    endings = {'.' + extension.lower().lstrip('.') for extension in extensions}
    paths = []
    pending = [('', ())]  # folder relative to root with a final slash, identities of the folders it lies in
    while pending:
        folder, above = pending.pop()
        status = os.stat(Path(root, folder))
        identity = status.st_dev, status.st_ino
        if identity in above:
            continue
        with os.scandir(Path(root, folder)) as entries:
            for entry in entries:
                if _is_folder(entry):
                    pending.append((f'{folder}{entry.name}/', (*above, identity)))
                elif os.path.splitext(entry.name)[1].lower() in endings:
                    paths.append(folder + entry.name)
    return sorted(paths)


def _is_folder(entry):
    # os.path.isdir costs a call a file on the disk, and unlike entry.is_dir() survives a link to itself.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
