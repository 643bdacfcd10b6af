"""Files of pictures -> files of their reconstructions: what ``tools/reconstruct.py`` runs."""

import os
from dataclasses import dataclass
from pathlib import Path

from wfvae_toolkit.datasets import (
    BadFile,
    PictureCounts,
    SequentialSampler,
    count_images,
    embedded_profile,
    load_batches,
)
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.pixels import from_bytes, to_bytes
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.visualization.pictures import write_picture

# 4:4:4: with half the colour resolution the file would hide what the model did to colour edges.
FORMATS = {'png': dict(format='PNG'), 'webp': dict(format='WEBP'), 'jpg': dict(format='JPEG', subsampling=0)}
DEFAULT_QUALITY = 95
EXISTING = ('error', 'skip', 'replace')


@dataclass(frozen=True)
class PictureFormat:
    """How pictures are written.

    Args:
        name (str): ``'png'`` (lossless), ``'webp'`` or ``'jpg'``.
        quality (int): 1 to 100, of the latter two; None: 95.

    Raises:
        SettingError: another name, a quality out of range, or one for PNG.
    """

    name: str = 'png'
    quality: int | None = None

    def __post_init__(self):
        if self.name not in FORMATS:
            raise SettingError(f'format {self.name!r}: use one of {", ".join(FORMATS)}')
        if self.quality is not None and (self.name == 'png' or not 1 <= self.quality <= 100):
            raise SettingError(f'quality {self.quality} for {self.name}: use 1 to 100 with webp or jpg; '
                               'png is lossless and has none')

    def write(self, pixels, path, profile=None):
        """uint8 (H, W, 3) -> ``path``, replaced as a whole; ``profile``: bytes of an ICC profile to embed."""
        quality = {} if self.name == 'png' else {'quality': self.quality or DEFAULT_QUALITY}
        write_picture(pixels, path, **FORMATS[self.name], **quality, icc_profile=profile)


@dataclass(frozen=True)
class PlannedOutputs:
    """Where reconstructions go.

    Attributes:
        paths (dict[int, Path]): number of a picture in the dataset -> its output, of those still to do.
        skipped (int): how many outputs were there already.
    """

    paths: dict
    skipped: int


def plan_outputs(dataset, output, suffix, max_images=None, existing='error', beside=False):
    """Decide every output's name before anything is written: the picture's own path under ``output``, new suffix.

    Args:
        dataset (ImageDataset): of `open_images`.
        output (str | Path): a folder; for a single picture, with the suffix of a picture, its reconstruction itself.
        suffix (str): of the outputs, ``'.png'``.
        max_images (int): only the first ones.
        existing (str): an output that is there: ``'error'``, ``'skip'`` it or ``'replace'`` it.
        beside (bool): the original is written too, as ``NAME.original.png``.

    Raises:
        SettingError: two pictures would share an output, an output is one of the pictures or lies in their folder,
            or is there already.
    """
    if existing not in EXISTING:
        raise SettingError(f'existing={existing!r}: use one of {", ".join(EXISTING)}')
    output = Path(output).expanduser()
    if dataset.is_scanned and Path(os.path.abspath(output)).is_relative_to(os.path.abspath(dataset.data_root)):
        raise SettingError(f'{output} lies in {dataset.data_root}, where the next run would take it for pictures: '
                           'choose a folder outside')
    names = {index: os.path.normpath(dataset.path(index)) for index in range(count_images(dataset, max_images))}
    sources = {os.path.abspath(dataset.data_root / name): name for name in names.values()}
    if len(dataset) == 1 and _is_picture_name(output):
        paths = {0: output}
    else:
        paths = {index: output / Path(name).with_suffix(suffix) for index, name in names.items()}
    owners = {}
    for index, path in paths.items():
        for made in (path, original_path(path)) if beside else (path,):
            if made in owners:
                raise SettingError(f'{owners[made]} and {names[index]} would both become {made}: rename one of them, '
                                   'or reconstruct them into different folders')
            if os.path.abspath(made) in sources:
                raise SettingError(f'{made} would overwrite the picture that it is made from: choose another output')
            owners[made] = names[index]
    there = {index for index, path in paths.items() if path.exists()}
    if there and existing == 'error':
        first = paths[min(there)]
        raise SettingError(f'{len(there)} outputs are there already, such as {first}: --existing skip leaves them and '
                           'makes the others, --existing replace writes all of them again')
    skipped = there if existing == 'skip' else set()
    return PlannedOutputs({index: path for index, path in paths.items() if index not in skipped}, len(skipped))


def original_path(path):
    """Where the original of a reconstruction goes: ``a.png`` -> ``a.original.png``."""
    return path.with_name(f'{path.stem}.original.png')


def reconstruct_files(reconstructor, dataset, planned, picture_format, beside=False, num_workers=0):
    """Reconstruct picture by picture, this rank's share, through the posterior's mean; every rank must call it.

    The network sees the numbers of the file, so a reconstruction keeps the file's colour profile: both are shown alike.
    Without one it is in sRGB, as it is where the dataset converts colours, and where the profile does not describe RGB.

    Args:
        reconstructor (Reconstructor): the model.
        dataset (ImageDataset): the pictures.
        planned (PlannedOutputs): of the same dataset.
        picture_format (PictureFormat): of the reconstructions.
        beside (bool): write what the model saw as well, as `original_path`, in PNG.
        num_workers (int): processes that read.

    Returns:
        list[BadFile]: of all ranks, by path: files that could not be read; the others are written.

    Raises:
        NotFinite: a reconstruction holds NaN or infinity; it is not written, and those before it stay.
    """
    # Each rank has looked for existing outputs before one writes the first.
    distributed.barrier()
    if not planned.paths:
        return []
    indices = list(planned.paths)
    share = [[indices[number.index]] for number in SequentialSampler(
        len(indices), distributed.rank(), distributed.world_size())]
    loader = load_batches(dataset, share, num_workers)
    bad, counts = [], PictureCounts()
    for batch in progress(loader, 'reconstructed', len(share)):
        bad += batch.bad
        counts.add(batch)
        for index, image in zip(batch.indices, batch.images, strict=True):
            path = planned.paths[index]
            target = from_bytes(image[None])
            reconstruction = reconstructor.reconstruct(target, names=[dataset.path(index)])
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = None if dataset.convert_to_srgb else embedded_profile(dataset.read(index))
            picture_format.write(_pixels(to_bytes(reconstruction)), path, profile)
            if beside:
                write_picture(_pixels(image[None]), original_path(path), icc_profile=profile)
    counts.say()
    return sorted(BadFile(*file) for files in distributed.gather(bad) for file in files)


def format_of(output, name=None, quality=None):
    """`PictureFormat` of a name, by default that of a single output's suffix, else PNG."""
    suffix = Path(output).suffix.lower().removeprefix('.')
    implied = {'jpeg': 'jpg'}.get(suffix, suffix)
    if implied in FORMATS and name not in (None, implied):
        raise SettingError(f'{output}: --format {name} needs the suffix .{name}, or leave --format out')
    return PictureFormat(name or (implied if implied in FORMATS else 'png'), quality)


def _is_picture_name(path):
    return path.suffix.lower().removeprefix('.') in (*FORMATS, 'jpeg')


def _pixels(images):
    """uint8 (1, 3, H, W) -> (H, W, 3) for Pillow."""
    return images[0].permute(1, 2, 0).cpu().contiguous().numpy()
