"""Folders that our tools wrote -> plain data: runs, their evaluations, comparisons of folders, ablations."""

import ast
import csv
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from wfvae_toolkit.evaluation.channel_maps import MAPS_FILE
from wfvae_toolkit.evaluation.kept import KEPT_FILE, picture_files
from wfvae_toolkit.utils.errors import MissingFile, SettingError
from wfvae_toolkit.utils.options import PROTOCOLS, parse_value
from wfvae_toolkit.visualization.records import read_records

SNAPSHOTS = 12  # pictures that a run wrote while it trained


@dataclass
class Evaluation:
    """Scores of one set of images.

    Attributes:
        folder (Path): where summary.json is.
        summary (dict): of summary.json.
        rows (dict[str, dict[str, float]]): path of an image -> value by column, in the order of metrics.csv.
        pictures (dict[str, Path]): path of an image -> input, reconstruction and error side by side.
        maps (dict[str, dict]): path of an image -> row of channels.json, ``file`` as a Path.
    """

    folder: Path
    summary: dict
    rows: dict
    pictures: dict
    maps: dict

    def values(self, column):
        """Path -> value of a column; empty if no image has one."""
        return {path: row[column] for path, row in self.rows.items() if column in row}

    @property
    def of_folders(self):
        """Whether two folders of pictures were compared, without a model."""
        return 'reconstructed' in self.summary['protocol']


@dataclass
class Entry:
    """What the report compares: a run with at most one evaluation, or an evaluation alone.

    Attributes:
        label (str): unique in a report.
        folder (Path): as it was given or found.
        run (Path | None): folder of the training.
        records (list[dict]): rows of its log.jsonl.
        config (dict | None): its settings; None if its file is not there or is no plain one.
        config_file (Path | None): that file.
        facts (dict): of run.json: what was run on what.
        evaluation (Evaluation | None): its scores.
        latents (dict): of latent_statistics.json.
        snapshots (dict[int, Path]): iteration -> picture that was written while it trained.
    """

    label: str
    folder: Path
    run: Path | None = None
    records: list = field(default_factory=list)
    config: dict | None = None
    config_file: Path | None = None
    facts: dict = field(default_factory=dict)
    evaluation: Evaluation | None = None
    latents: dict = field(default_factory=dict)
    snapshots: dict = field(default_factory=dict)


def read_entries(folders):
    """Folders of any kind -> list of Entry, in their order; a run that was scored at several sizes gives several.

    Raises:
        MissingFile: a folder is not there.
        SettingError: nothing in it is known, or a file in it is damaged.
    """
    places = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise MissingFile(f'{folder}: no such folder')
        found = list(_places(folder))
        if not found:
            raise SettingError(
                f'{folder}: holds no run (log.jsonl), no scores (summary.json) and no ablation; name a folder that '
                'tools/train.py, test.py, compare_folders.py or ablate.py wrote')
        places.update(found)
    entries = [_read(run, scores) for run, scores in places]
    for entry, label in zip(entries, _labels(entries), strict=True):
        entry.label = label
    return entries


def read_studies(folders):
    """Ablations among the folders -> list of (name, rows of ablation.csv)."""
    tables = [Path(folder) / 'ablation.csv' for folder in folders]
    return [(table.parent.name, _read_csv(table)) for table in tables if table.is_file()]


def _places(folder):
    """((folder of a run or None, folder of scores or None), True) of all that is in a folder."""
    if (folder / 'summary.json').is_file():
        yield (None, folder), True
    elif _is_run(folder):
        scores = _scores_below(folder / 'evaluation')
        for place in scores or [None]:
            yield (folder, place), True
    elif runs := [path.parent for path in folder.glob('*/seed_*/ablation.json')]:
        configs = [row['config'] for row in _read_csv(folder / 'ablation.csv')]
        # As the table has them: the first config is the one that the others are compared with.
        runs.sort(key=lambda run: (configs.index(run.parent.name) if run.parent.name in configs else len(configs),
                                   run.parent.name, len(run.name), run.name))
        for run in runs:
            yield from _places(run)
    else:
        for place in _scores_below(folder):
            yield (None, place), True


def _is_run(folder):
    return any((folder / name).is_file() for name in ('log.jsonl', 'run.json', 'ablation.json', 'last_checkpoint'))


def _scores_below(folder):
    """Folders with scores in a folder: itself, or one for each size, for each protocol, or for each of both."""
    if (folder / 'summary.json').is_file():
        return [folder]
    found = [path.parent for pattern in ('*/summary.json', '*px/*/summary.json') for path in folder.glob(pattern)]
    return sorted((place for place in found if place.name.endswith('px') or place.name in PROTOCOLS),
                  key=lambda place: (len(place.parent.name), place.parent, len(place.name), place))


def _read(run, scores):
    entry = Entry('', run or scores, run)
    if scores:
        entry.evaluation = read_evaluation(scores)
        if run is None:
            run = entry.run = _run_of(entry.evaluation)
    if run:
        entry.records = read_records(run)
        entry.config_file, entry.config = read_config(run)
        entry.facts = _read_json(run / 'run.json', {})
        entry.snapshots = _snapshots(run / 'pictures')
    for folder in filter(None, (run, run and run / 'exported', scores)):
        record = _read_json(folder / 'latent_statistics.json', {})
        if record.get('mean'):  # of a model that was only exported it holds the largest activations alone
            entry.latents = record
            break
    return entry


def _run_of(evaluation):
    """The run that holds a folder of scores, if the scores are of its weights; else None."""
    above = evaluation.folder.parent
    run = next((place for place in (above, above.parent) if _is_run(place)), None)
    checkpoint = evaluation.summary['protocol'].get('checkpoint')
    if run is None or checkpoint is None:  # a comparison of folders
        return None
    # Its checkpoint, which it may have deleted since, or an exported folder in it; a model that was named is neither.
    exported = run / checkpoint
    belongs = checkpoint.endswith('.pth') or exported.exists() and exported not in (above, evaluation.folder)
    return run if belongs else None


def read_evaluation(folder):
    """A folder with summary.json and metrics.csv -> Evaluation."""
    summary = _read_json(folder / 'summary.json', None)
    lacking = {'images', 'protocol', 'metrics'} - summary.keys() if isinstance(summary, dict) else 'all'
    if lacking:
        raise SettingError(f'{folder / "summary.json"}: not one of tools/test.py or compare_folders.py')
    rows = {}
    for row in _read_csv(folder / 'metrics.csv'):
        path = row.pop('path')
        rows[path] = {name: _number(text, folder / 'metrics.csv') for name, text in row.items() if text}
    kept = _read_json(folder / KEPT_FILE, None)
    if kept is None:
        kept = {path: f'pictures/{name}' for path, name in picture_files(rows).items()}  # before there was the list
    pictures = {path: folder / name for path, name in kept.items() if path in rows and (folder / name).is_file()}
    maps = {path: {**one, 'file': folder / one['file']} for path, one in _read_json(folder / MAPS_FILE, {}).items()
            if path in rows and (folder / one['file']).is_file()}
    return Evaluation(folder, summary, rows, pictures, maps)


def read_config(run):
    """Folder of a run -> (the config's file, its settings); (None, None) without, (file, None) if it is no plain one.

    The file is read, not executed.
    """
    files = sorted(run.glob('*.py'), key=lambda path: path.stat().st_mtime)
    if not files:
        return None, None
    try:
        tree = ast.parse(files[-1].read_text(encoding='utf-8'))
    except (SyntaxError, UnicodeDecodeError):
        return files[-1], None
    settings = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            return files[-1], None
        settings[node.targets[0].id] = parse_value(ast.unparse(node.value))
    return files[-1], settings


def _snapshots(folder):
    """Iteration -> picture, the last and others evenly spread before it."""
    found = {int(path.stem[5:]): path for path in folder.glob('iter_*.png') if path.stem[5:].isdigit()}
    order = sorted(found)
    if len(order) > SNAPSHOTS:
        step = (len(order) - 1) / (SNAPSHOTS - 1)
        order = [order[round(place * step)] for place in range(SNAPSHOTS)]
    return {iteration: found[iteration] for iteration in order}


def _labels(entries):
    """Short names: of the folder, with as many of the folders above as make it unique."""
    parts = []
    for entry in entries:
        folder = (entry.run or entry.folder).resolve()
        names = list(folder.parts)
        scores = entry.evaluation.folder.resolve() if entry.evaluation else None
        if entry.run and scores and scores.name != 'evaluation' and scores.is_relative_to(folder):
            names += [name for name in scores.relative_to(folder).parts if name != 'evaluation']
        elif entry.run is None and folder.name == 'evaluation':
            names = names[:-1]
        parts.append(names)
    depth = [min(len(names), 1 + sum(map(_says_little, names[-2:]))) for names in parts]
    while True:
        labels = ['/'.join(names[-count:]) for names, count in zip(parts, depth, strict=True)]
        counts = Counter(labels)
        longer = [place for place, label in enumerate(labels) if counts[label] > 1 and depth[place] < len(parts[place])]
        if not longer:
            break
        for place in longer:
            depth[place] += 1
    for place, label in enumerate(labels):
        if counts[label] > 1:
            labels[place] = f'{label} ({labels[:place].count(label) + 1})'
    return labels


def _says_little(name):
    """Whether a folder's name alone tells no run: seed_0, 256px, rae."""
    return name.startswith('seed_') or name.endswith('px') or name in PROTOCOLS


def _read_json(path, default):
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise SettingError(f'{path}: not JSON ({error}); the tool that wrote it can write it again') from None


def _read_csv(path):
    if not path.is_file():
        return []
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def _number(text, path):
    try:
        return float(text)
    except ValueError:
        raise SettingError(f'{path}: {text!r} is no number; the tool that wrote it can write it again') from None


def is_finite(value):
    """Whether it is a number that can be drawn: no None, NaN or infinity, no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
