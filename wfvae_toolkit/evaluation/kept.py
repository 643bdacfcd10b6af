"""Which images of an evaluation keep a picture: the worst, the best and a random few, or all of a small set."""

import random
from collections import Counter
from pathlib import Path, PurePath

from wfvae_toolkit.utils.files import printable, write_json
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.visualization.pictures import comparison_grid, write_picture

from .worst import worst_images

KEPT = 200  # images
KEPT_FILE = 'pictures.json'


def random_images(count, limit=KEPT):
    """Positions of the images that keep a picture whatever their scores are; all of ``count`` if they fit the limit.

    The same positions for every run on the same images, so that two runs can be compared on them.
    """
    if count <= limit:
        return set(range(count))
    return set(random.Random(0).sample(range(count), limit // 3))


def extreme_images(summary, count):
    """Paths of the worst and the best images, at most ``count``: of each metric the worst, then the best, in turn."""
    worst = worst_images(summary, summary.images)
    turns = [list(images) for images in worst.values()]
    chosen = {}
    for place in range(summary.images):
        for images in turns:
            for path, _ in (images[place], images[-1 - place]):
                if len(chosen) == count:
                    return list(chosen)
                chosen[path] = None
    return list(chosen)


def picture_files(paths):
    """Path of an image -> name of its picture: ``a.png`` for ``a.jpg``; ``a.jpg.png`` if there is an ``a.bmp`` too."""
    stems = Counter(PurePath(path).with_suffix('') for path in paths)
    return {path: f'{path if stems[stem] > 1 else stem}.png'
            for path in paths for stem in [PurePath(path).with_suffix('')]}


def write_kept(summary, folder, names, images_of, asked_for=(), written=False, count=KEPT):
    """Write ``pictures/NAME.png`` (input, reconstruction, error) of the images to keep, and ``pictures.json``.

    ``pictures.json`` is a dict: path of a row in metrics.csv -> picture, relative to ``folder``.

    Args:
        summary (EvaluationSummary): of the images.
        folder (str | Path): receives both.
        names (dict[str, str]): `picture_files` of all images.
        images_of (callable): path of a row -> target and reconstruction, (1, 3, H, W) in [-1, 1].
        asked_for (Iterable[str]): paths of images that are kept whatever their scores are; they count.
        written (bool): the pictures of those are there already.
        count (int): most images.

    Returns:
        list[str]: paths of the kept images: the worst and the best in turn, then those asked for.
    """
    scored = {row['path'] for row in summary.rows}
    chosen = dict.fromkeys(path for path in asked_for if path in scored)
    there = set(chosen) if written else set()
    extreme = extreme_images(summary, count)
    for path in extreme:
        if len(chosen) < count:
            chosen[path] = None
    missing = [path for path in chosen if path not in there]
    for path in progress(missing, 'pictures written', len(missing)):
        place = Path(folder) / 'pictures' / names[path]
        place.parent.mkdir(parents=True, exist_ok=True)
        write_picture(comparison_grid(*images_of(path)), place)
    write_json(Path(folder) / KEPT_FILE, {path: f'pictures/{printable(names[path])}' for path in chosen})
    return list(dict.fromkeys([path for path in extreme if path in chosen] + list(chosen)))
