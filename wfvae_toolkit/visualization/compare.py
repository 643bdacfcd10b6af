"""Curves of several runs side by side, from their logs."""

import collections
from pathlib import Path

from wfvae_toolkit.utils.errors import MissingFile, SettingError, UnknownName

from .curves import Curve
from .records import read_records

# Drawn by default, if a run has logged them.
NAMES = ('PSNR', 'LPIPS', 'STLPIPS', 'per_pixel/pixel', 'kl', 'discriminator')


def compare_runs(folders, names=None, smooth=1):
    """Panels of ``draw_curves``: one per name, with one curve per run.

    Args:
        folders (list[str | Path]): run folders, each with a log.jsonl.
        names (list[str]): logged values; ``train/NAME`` or ``val/NAME`` chooses one phase.
        smooth (int): each point is the mean of this many last rows; fewer at the start.

    Raises:
        MissingFile: a folder without log.jsonl.
        UnknownName: a name that no run has logged; the message lists the logged ones.
        SettingError: ``smooth`` below 1.
    """
    if smooth < 1:
        raise SettingError(f'smooth={smooth}: 1 (as logged) or more rows')
    runs = {label: _read_values(folder) for label, folder in zip(_labels(folders), folders, strict=True)}
    logged = sorted({key for values in runs.values() for key in values})
    panels = {}
    for name in names or NAMES:
        keys = [key for key in logged if name in (key, key.partition('/')[2])]
        if names and not keys:
            raise UnknownName(f'no run has logged {name!r}; there are: {", ".join(logged)}')
        for key in keys:
            # A run without this value keeps its place, so that each run has the same colour in all panels.
            panels[key] = {label: _smoothed(values.get(key, ()), smooth) for label, values in runs.items()}
    return panels


def _read_values(folder):
    """'train/loss' -> [(iteration, value)], finite ones, in the log's order."""
    if not (Path(folder) / 'log.jsonl').is_file():
        raise MissingFile(f'{folder} holds no log.jsonl: name the folder of a run')
    values = collections.defaultdict(list)
    for row in read_records(folder):
        for name, value in row.items():
            if name not in ('phase', 'iteration') and value is not None:
                values[f'{row["phase"]}/{name}'].append((row['iteration'], value))
    return values


def _labels(folders):
    """Names of the folders, or whole paths where two have the same name."""
    resolved = [Path(folder).resolve() for folder in folders]
    counts = collections.Counter(path.name for path in resolved)
    return [path.name if counts[path.name] == 1 else str(folder)
            for path, folder in zip(resolved, folders, strict=True)]


def _smoothed(points, rows):
    curve, window = Curve(), collections.deque(maxlen=rows)
    for iteration, value in points:
        window.append(value)
        curve.add(iteration, sum(window) / len(window))
    return curve
