"""What a study found: one row a config, as Markdown, CSV and a picture."""

import csv
import json
import math
import statistics as stdlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wfvae_toolkit.evaluation.statistics import FEWEST, paired_difference, statistics
from wfvae_toolkit.evaluation.tables import ARROWS
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError, UserError
from wfvae_toolkit.utils.files import atomic_write
from wfvae_toolkit.visualization.records import read_records

from .ablation_runs import training_seconds
from .summary import summarize_model

FLOPS_SIZE = 256  # px
MARKS = ('<!-- ablation table -->', '<!-- end of ablation table -->')


@dataclass
class Score:
    """``mean`` of ``seeds``, one mean over images each; ``std`` over seeds (None: one seed).

    difference, ci95: to the first config's, and half its 95 % confidence interval over images; None for the first.
    Fewer than FEWEST images give no interval.
    """

    seeds: list[float]
    mean: float
    std: float | None
    difference: float | None = None
    ci95: float | None = None


@dataclass
class Size:
    """Encoder and decoder: ``parameters``, and FLOPs of one image of 256 px forward through both."""

    parameters: int
    flops: int


@dataclass
class Row:
    """A config's results; ``seeds`` are those that finished, seconds and memory the worst of them."""

    name: str
    seeds: list[int]
    iterations: int
    size: Size
    seconds: float | None = None
    memory_gib: float | None = None
    scores: dict[str, Score] = field(default_factory=dict)


@dataclass
class Table:
    """``directions``: metric -> higher_is_better."""

    rows: list[Row]
    directions: dict[str, bool | None]
    images: int


def measure_sizes(runs):
    """Runs -> Size by name of their configs; SettingError that names the config whose model cannot be built."""
    sizes = {}
    for name, run in {run.name: run for run in runs}.items():
        try:
            summary = summarize_model(load_config(run.config, run.scoring).model, FLOPS_SIZE)
        except UserError as error:
            raise SettingError(f'{run.config}: {error}') from error
        sizes[name] = Size(summary.parts['encoder'] + summary.parts['decoder'],
                           summary.encoder_flops + summary.decoder_flops)
    return sizes


def collect(runs, sizes):
    """Finished runs of a study and their ``measure_sizes`` -> Table, in the runs' order of configs.

    A difference is taken image by image, after averaging each image's value over the seeds that both configs finished;
    its confidence interval is the paired t-test's over images.

    Raises:
        SettingError: two runs were scored on different images.
    """
    values, blocks, directions, paths = {}, {}, {}, None
    for run in runs:
        if run.finished():
            measured, found_blocks, found, found_paths = _read_scores(run.folder / 'evaluation')
            values[run.name, run.seed], blocks[run.name, run.seed] = measured, found_blocks
            directions |= found
            if paths not in (None, found_paths):
                raise SettingError(f'{run.label}: its images differ from those of the runs before it')
            paths = found_paths
    names = list(dict.fromkeys(run.name for run in runs))
    rows = [_row([run for run in runs if run.name == name], sizes[name]) for name in names]
    for row in rows:
        for metric in directions:
            score = _score(values, blocks, metric, row, rows[0])
            if score is not None:
                row.scores[metric] = score
    return Table(rows, directions, len(paths or ()))


def write_table(table, note, folder):
    """Write ``ablation.md``, ``ablation.csv`` and ``ablation.png``; -> the Markdown."""
    folder = Path(folder)
    text = f'{format_markdown(table)}\n\n{note}\n'
    with atomic_write(folder / 'ablation.md', 'w') as file:
        file.write(text)
    records = [_record(row, table) for row in table.rows]
    with atomic_write(folder / 'ablation.csv', 'w') as file:
        writer = csv.DictWriter(file, list(records[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(records)
    if table.directions:
        _draw(table, folder / 'ablation.png')
    return text


def format_markdown(table):
    """Table -> Markdown; a config without any finished run has dashes."""
    header = ['config']
    for metric, higher_is_better in table.directions.items():
        header += [f'{metric} {ARROWS[higher_is_better]}'.rstrip(), f'Δ {metric}']
    header += ['seeds', 'updates', 'parameters, M', 'GFLOP', 'training, s', 'memory, GiB']
    lines = [header, ['---'] * len(header)]
    for row in table.rows:
        cells = [f'`{row.name}`']
        for metric in table.directions:
            score = row.scores.get(metric)
            cells += ['–', '–'] if score is None else [
                _number(score.mean) + ('' if score.std is None else f' ± {_number(score.std)}'), _difference(score)]
        lines.append([*cells, str(len(row.seeds)), str(row.iterations), f'{row.size.parameters / 1e6:.2f}',
                      f'{row.size.flops / 1e9:.1f}', '–' if row.seconds is None else f'{row.seconds:.0f}',
                      '–' if row.memory_gib is None else f'{row.memory_gib:.2f}'])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def describe(table, seeds, command):
    """A line below the table: what its numbers are."""
    alone = any(score.difference is not None and score.ci95 is None
                for row in table.rows for score in row.scores.values())
    without = ''
    if alone and table.images > 1:
        without = ('A Δ without an interval is that of a score of the whole set. ' if table.images >= FEWEST
                   else f'A Δ has no interval: that needs {FEWEST} images or more. ')
    return (f'{table.images} images, seeds {" ".join(map(str, seeds))}. Scores: mean ± standard deviation over seeds. '
            f'Δ: to `{table.rows[0].name}`, with the 95 % confidence interval of the paired t-test over images, each '
            "image's values averaged over seeds first: it speaks of other images, not of other seeds. "
            f'{without}Parameters and '
            f'GFLOP (two FLOPs for a multiply-add; forward, {FLOPS_SIZE} px, one image) of encoder and decoder; time '
            'of the updates and peak memory '
            f'of the slowest and the largest run.\n\n```bash\n{command}\n```')


def fill(path, text, marks=MARKS):
    """Put ``text`` between two marks in a Markdown file; SettingError if they are not there, once each."""
    path = Path(path)
    page = path.read_text(encoding='utf-8') if path.is_file() else ''
    if [page.count(mark) for mark in marks] != [1, 1]:
        raise SettingError(f'{path}: needs one line {marks[0]} and, below it, one line {marks[1]}')
    before, rest = page.split(marks[0])
    with atomic_write(path, 'w') as file:
        file.write(f'{before}{marks[0]}\n\n{text.strip()}\n\n{marks[1]}{rest.split(marks[1])[1]}')


def _read_scores(folder):
    """{metric: {path: value}}, {metric: {block: value}}, {metric: higher_is_better} and the paths, of the weights that
    a user gets.

    A metric of the whole set has one value, under the path ''; NaN where it has none. Its difference between two
    configs has an interval if it has a value for each block of images.
    """
    summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
    entries = {name: entry for name, entry in summary['metrics'].items() if '/' not in name}
    with open(folder / 'metrics.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    measured = {name: {row['path']: float(row[name]) for row in rows} if name in rows[0] else
                {'': math.nan if entry['mean'] is None else entry['mean']} for name, entry in entries.items()}
    blocks = {name: dict(enumerate(entry['blocks'])) for name, entry in entries.items() if entry.get('blocks')}
    return (measured, blocks, {name: entry['higher_is_better'] for name, entry in entries.items()},
            [row['path'] for row in rows])


def _row(runs, size):
    finished = [run for run in runs if run.finished()]
    row = Row(runs[0].name, [run.seed for run in finished], runs[0].max_iters, size)
    if finished:
        row.seconds = max(training_seconds(run.folder) for run in finished)
        row.memory_gib = max(record['peak_memory_gib'] for run in finished for record in read_records(run.folder)
                             if record['phase'] == 'train')
    return row


def _score(values, blocks, metric, row, first):
    means = [statistics(values[row.name, seed][metric].values())['mean'] for seed in row.seeds
             if metric in values[row.name, seed]]
    if not means or None in means:
        return None
    score = Score(means, stdlib.fmean(means), stdlib.stdev(means) if len(means) > 1 else None)
    both = [seed for seed in row.seeds if seed in first.seeds]
    if row is not first and both and metric in values[first.name, both[0]]:
        difference = paired_difference(_over_seeds(values, first.name, metric, both),
                                       _over_seeds(values, row.name, metric, both))
        score.difference = difference['mean']
        if len(values[row.name, both[0]][metric]) >= FEWEST:
            score.ci95 = difference['ci95']
        elif all(metric in blocks[name, seed] for name in (first.name, row.name) for seed in both):
            score.ci95 = paired_difference(_over_seeds(blocks, first.name, metric, both),
                                           _over_seeds(blocks, row.name, metric, both))['ci95']
    return score


def _over_seeds(values, name, metric, seeds):
    """One value an image, or a block, in the order of the first seed's."""
    of_seeds = [values[name, seed][metric] for seed in seeds]
    return [stdlib.fmean(measured[path] for measured in of_seeds) for path in of_seeds[0]]


def _difference(score):
    if score.difference is None:
        return ''
    text = f'{score.difference:+.2g}' if _small(score.difference) else f'{score.difference:+.3f}'
    return text + ('' if score.ci95 is None else f' ± {_number(score.ci95)}')


def _number(value):
    if _small(value):
        return f'{value:.2g}'
    return f'{value:.2f}' if abs(value) >= 10 else f'{value:.3f}'


def _small(value):
    """Whether a number is not 0 and would be one with three digits after the point."""
    return 0 < abs(value) < 0.0005


def _record(row, table):
    record = {'config': row.name, 'seeds': len(row.seeds), 'iterations': row.iterations, **asdict(row.size),
              'seconds': row.seconds, 'peak_memory_gib': row.memory_gib}
    for metric in table.directions:
        score = row.scores.get(metric)
        for name in ('mean', 'std', 'difference', 'ci95'):
            record[metric if name == 'mean' else f'{metric}_{name}'] = getattr(score, name, None)
    return record


def _draw(table, path):
    """A row of panels a metric: scores with a dot a seed, and differences with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = range(len(table.rows))
    figure = Figure(figsize=(10, len(table.directions) * (0.8 + 0.28 * len(table.rows))), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(table.directions), 2, squeeze=False, sharey=True)
    for (scores, differences), (metric, higher_is_better) in zip(panels, table.directions.items(), strict=True):
        for place, row in zip(places, table.rows, strict=True):
            if (score := row.scores.get(metric)) is None:
                continue
            scores.plot(score.seeds, [place] * len(score.seeds), '.', color='0.6')
            scores.plot(score.mean, place, 'o', color='C0')
            if score.difference is not None:
                differences.errorbar(score.difference, place, xerr=score.ci95, fmt='o', color='C0', capsize=3)
        differences.axvline(0, color='0.4', linewidth=1)
        scores.set_title(f'{metric} {ARROWS[higher_is_better]}', fontsize=9, loc='left')
        differences.set_title(f'difference to {table.rows[0].name}, 95 % over images', fontsize=9, loc='left')
        scores.set_yticks(places, [row.name for row in table.rows], fontsize=8)
        scores.set_ylim(len(table.rows) - 0.5, -0.5)
        for axes in (scores, differences):
            axes.grid(alpha=0.25)
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=110)
