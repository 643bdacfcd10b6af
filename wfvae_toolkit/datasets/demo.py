"""Photographs for the demo, from the wheels of scikit-image and scikit-learn: nothing is downloaded.

The demo leaves out the drawings, text pages and logos of those packages, the right view of the motorcycle (it shows the
same as the left one), and pictures of little use: ``cell`` and ``clock_motion`` (blurred), ``microaneurysms`` (102 px).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from wfvae_toolkit.utils.files import atomic_write

SOURCES = {'scikit-image': ('skimage', 'data'), 'scikit-learn': ('sklearn', 'datasets/images')}
PHOTOS = {
    'train': {
        'scikit-image': (
            'astronaut.png', 'coffee.png', 'hubble_deep_field.jpg', 'ihc.png', 'motorcycle_left.png', 'retina.jpg',
            'rocket.jpg',
            # Grey, as three equal channels. They add texture and edges, of which the colour pictures have few.
            'brick.png', 'camera.png', 'coins.png', 'grass.png', 'gravel.png', 'moon.png'),
        'scikit-learn': ('china.jpg',)},
    'val': {
        'scikit-image': ('chelsea.png',),
        'scikit-learn': ('flower.jpg',)}}


class DemoPhoto(NamedTuple):
    """One photograph in the demo's folder; ``width`` and ``height`` in pixels."""

    split: str
    name: str
    width: int
    height: int
    source: str


def make_demo_data(folder):
    """Write the photographs as RGB PNG, pixels unchanged, to ``folder/train`` and ``folder/val``.

    Files that exist are kept: a second call writes nothing.

    Returns:
        list[DemoPhoto]: every photograph of both splits.

    Raises:
        ModuleNotFoundError: a photograph is missing, and the package that contains it is not installed.
        FileNotFoundError: the installed package does not contain it.
    """
    photos = []
    for split, by_source in PHOTOS.items():
        (Path(folder) / split).mkdir(parents=True, exist_ok=True)
        for source, files in by_source.items():
            for file in files:
                target = (Path(folder) / split / file).with_suffix('.png')
                if not target.exists():
                    _write_png(find_photo(source, file), target)
                with Image.open(target) as image:
                    photos.append(DemoPhoto(split, target.name, *image.size, source))
    return photos


def find_photo(source, file):
    """Path of a photograph inside the installed package, which is not imported."""
    module, folder = SOURCES[source]
    spec = find_spec(module)
    if spec is None or spec.origin is None:  # an uninstalled package can leave an empty folder
        raise ModuleNotFoundError(f'{source} ships the photograph {file}: pip install wfvae_toolkit[demo]', name=module)
    path = Path(spec.origin).parent / folder / file
    if not path.is_file():
        raise FileNotFoundError(f'{path}: this version of {source} does not ship it; pip install -U {source}')
    return path


def _write_png(source, target):
    with Image.open(source) as image, atomic_write(target) as file:
        image.convert('RGB').save(file, format='PNG')
