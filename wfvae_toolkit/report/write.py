"""Folders of runs and scores -> a folder with index.html, which needs no server and no network."""

import hashlib
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_write, printable

from .curves import curve_columns
from .describe import describe, discriminator_start
from .pictures import PictureWriter, choose_pictures, scale_colours
from .read import read_entries, read_studies

HERE = Path(__file__).parent
MARK = '<meta name="generator" content="wfvae_toolkit report">'  # of a folder that may be written again
SECTIONS = ('summary', 'latents', 'settings')


def write_report(folders, out=None, pictures=200, live=False):
    """Write the report of runs, evaluations, comparisons of folders and ablations, in any mixture.

    Args:
        folders (list[str | Path]): what our tools wrote; see `read_entries`. The others are compared with the first.
        out (str | Path): the report's folder (default: `default_place`). An earlier report there is replaced; files of
            other kinds are never touched.
        pictures (int): most images that are shown with their pictures; scores are shown of all.
        live (bool): the report will be written again while it is read: the page looks for new data every few seconds.

    Returns:
        Path: index.html.

    Raises:
        MissingFile: a folder is not there.
        SettingError: nothing in a folder is known, a file in it is damaged, or ``out`` holds something else.
    """
    out = Path(out) if out is not None else default_place(folders)
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_report(out))):
        raise SettingError(f'{out}: holds something that is no report; choose another folder')
    entries, studies = read_entries(folders), read_studies(folders)
    out.mkdir(parents=True, exist_ok=True)
    # First: a report that was interrupted may be written again.
    if not _is_report(out):
        _write_text(out / 'index.html', f'<!doctype html>{MARK}<title>Unfinished report</title>')
    writer = PictureWriter(out)
    page = describe(entries, studies, printable)
    environment = Environment(loader=FileSystemLoader(HERE / 'templates'), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    sections = {name: environment.get_template(f'{name}.html.j2').render(page) for name in SECTIONS}
    data = {**_data(entries, page, writer, pictures), 'sections': sections, 'live': live}
    script = _as_script(data)
    version = hashlib.blake2b(script.encode(), digest_size=8).hexdigest()
    for place in (HERE / 'assets').rglob('*'):
        if place.is_file() and place.suffix in ('.js', '.css', '.LICENSE'):
            _copy(place, out / 'assets' / place.name)
    (out / 'data').mkdir(exist_ok=True)
    _write_text(out / 'data/data.js', f'receiveReport({script}, "{version}");\n')
    _write_text(out / 'index.html', environment.get_template('index.html.j2').render(
        page, mark=MARK, sections=sections, version=version, written=time.strftime('%Y-%m-%d %H:%M:%S')))
    # Last: the page asks for this one, and loads the others when it changed.
    _write_text(out / 'data/version.js', f'receiveVersion("{version}");\n')
    writer.remove_unused()
    return out / 'index.html'


def default_place(folders):
    """Folder of a report: ``report/`` in the only folder, or beside the first of several."""
    first = Path(folders[0])
    return first / 'report' if len(folders) == 1 else first.parent / 'report'


def _is_report(folder):
    page = folder / 'index.html'
    return page.is_file() and MARK in page.read_text(encoding='utf-8', errors='replace')[:2000]


def _data(entries, page, writer, limit):
    """What the page's scripts draw."""
    paths = choose_pictures(entries, limit)
    written = writer.write_all(entries, paths)
    metrics = [metric for metric in page['metrics'] if metric['per_image']]
    scores = {}
    for number, entry in enumerate(entries):
        for path, row in (entry.evaluation.rows if entry.evaluation else {}).items():
            scores.setdefault(path, {})[number] = [row.get(metric['name']) for metric in metrics]
    return {
        'labels': [entry['label'] for entry in page['entries']],
        'metrics': [{key: metric[key] for key in ('name', 'better', 'title')} for metric in metrics],
        'scores': scores,
        'pictures': [{'path': path, 'runs': {number: asdict(layers) for number, layers in one['runs'].items()},
                      'differences': one['differences']} for path, one in written.items()],
        'scales': scale_colours(),
        'channels': [{path: writer.channels(maps) for path, maps in entry.evaluation.maps.items()}
                     if entry.evaluation else {} for entry in entries],
        'curves': _curves(entries),
        'snapshots': [_snapshots(entry, writer) for entry in entries]}


def _curves(entries):
    """One dict an entry, or None: a run that was scored at several sizes is drawn once."""
    drawn, curves = set(), []
    for entry in entries:
        known = entry.run is None or entry.run.resolve() in drawn
        curves.append(None if known or not entry.records else {
            'phases': curve_columns(entry.records), 'discriminator': discriminator_start(entry)})
        drawn.add(entry.run and entry.run.resolve())
    return curves


def _snapshots(entry, writer):
    found = []
    for iteration, path in entry.snapshots.items():
        file, width, height = writer.snapshot(path)
        found.append({'iteration': iteration, 'file': file, 'width': width, 'height': height})
    return found


def _as_script(data):
    """Plain data -> JavaScript: NaN and Infinity are numbers there; no text can end the script."""
    text = json.dumps(data, separators=(',', ':'), ensure_ascii=True)
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')


def _write_text(path, text):
    with atomic_write(path, 'w') as file:
        file.write(text)


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)
