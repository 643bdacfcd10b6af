"""The table of a study: one row a model, means over seeds with intervals, as Markdown, CSV and JSON."""

import csv
import statistics as stdlib
from dataclasses import asdict, dataclass, field

from wfvae_toolkit.evaluation.statistics import paired_difference, statistics
from wfvae_toolkit.evaluation.tables import ARROWS
from wfvae_toolkit.utils.files import atomic_write, write_json

MARKS = ('<!-- diffusion table -->', '<!-- end of diffusion table -->')


@dataclass(frozen=True)
class Column:
    """A score: its ``title``, the part of the results and the key that hold it, and the better direction (or None).

    ``verdict``: whether its difference to the first row is shown.
    """

    title: str
    part: str
    key: str
    higher_is_better: bool | None
    verdict: bool = False


COLUMNS = (
    Column('PSNR, dB', 'autoencoder', 'PSNR', True, True),
    Column('SSIM', 'autoencoder', 'SSIM', True),
    Column('STLPIPS', 'autoencoder', 'STLPIPS', False),
    Column('rFD', 'autoencoder', 'rFD', False),
    Column('PSNR at noise 0.1', 'autoencoder', 'LatentNoise.0.1', True),
    Column('KL, nats', 'autoencoder', 'kl', None),
    Column('active channels', 'autoencoder', 'active_channels', None),
    Column('std', 'autoencoder', 'latent_std', None),
    Column('slope', 'autoencoder', 'LatentSpectrum.slope', None),
    Column('high share', 'autoencoder', 'LatentSpectrum.high_share', None),
    Column('iFD', 'autoencoder', 'iFD', False, True),
    Column('flow loss', 'diffusion', 'flow_loss', False, True),
    Column('of white noise', 'diffusion', 'flow_share', False),
    Column('FD of samples', 'diffusion', 'FD', False, True))


@dataclass
class Score:
    """Values by seed, their ``mean``, and half the 95 % confidence interval of the mean over seeds (None: one value).

    difference, difference_ci95: to the first row, over the seeds that both finished, paired by seed.
    """

    values: dict[int, float]
    mean: float
    ci95: float | None
    difference: float | None = None
    difference_ci95: float | None = None

    @property
    def is_beyond(self):
        """Whether the difference is larger than its interval."""
        return self.difference_ci95 is not None and abs(self.difference) > self.difference_ci95


@dataclass
class Line:
    """A row of the table; ``seconds``: of all that was computed for it, trainings included; None: not known."""

    name: str
    repeated: bool
    seeds: list[int]
    scores: dict[str, Score] = field(default_factory=dict)
    shape: list | None = None
    parameters: int | None = None
    autoencoder_s: float | None = None
    diffusion_s: float | None = None
    seconds: float = 0.0


def collect(study):
    """Study -> list of Line, in its order."""
    lines, first = [], None
    for row in study.rows:
        found = study.results(row)
        line = Line(row.name, row.repeated, list(found))
        if found:
            _describe_costs(line, row, found)
        for column in COLUMNS:
            values = {seed: result[column.part].get(column.key) for seed, result in found.items()}
            if column.part == 'autoencoder' and not row.repeated:
                values = dict(list(values.items())[:1])  # one autoencoder is one value
            if values and None not in values.values():
                line.scores[column.key] = Score(values, stdlib.fmean(values.values()),
                                                statistics(list(values.values()))['ci95'])
        if first is None:
            first = line
        elif line.repeated and first.repeated:
            _compare(line, first)
        lines.append(line)
    return lines


def _describe_costs(line, row, found):
    results = list(found.values())
    models = {row.number(seed): result['autoencoder'] for seed, result in found.items()}.values()
    line.shape, line.parameters = results[0]['autoencoder']['latent_shape'], results[0]['autoencoder']['parameters']
    trained = [model['training_s'] for model in models]
    line.autoencoder_s = None if None in trained else stdlib.fmean(trained)
    line.diffusion_s = stdlib.fmean(result['diffusion']['training_s'] for result in results)
    line.seconds = (sum(filter(None, trained)) + sum(model['scoring_s'] for model in models)
                    + sum(result['diffusion'][name] for result in results for name in ('training_s', 'scoring_s')))


def _compare(line, first):
    for key, score in line.scores.items():
        both = [seed for seed in score.values if key in first.scores and seed in first.scores[key].values]
        if both:
            difference = paired_difference([first.scores[key].values[seed] for seed in both],
                                           [score.values[seed] for seed in both])
            score.difference, score.difference_ci95 = difference['mean'], difference['ci95']


def write_table(study, lines, command):
    """Write ``compare.md``, ``compare.csv`` and ``compare.json`` into the study's folder; -> the Markdown."""
    text = f'{format_markdown(lines)}\n\n{describe(study, lines, command)}\n'
    with atomic_write(study.folder / 'compare.md', 'w') as file:
        file.write(text)
    records = [_record(line) for line in lines]
    with atomic_write(study.folder / 'compare.csv', 'w') as file:
        writer = csv.DictWriter(file, list(records[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(records)
    write_json(study.folder / 'compare.json', {
        'settings': asdict(study.settings), 'seeds': study.seeds, 'command': command,
        'rows': [asdict(line) for line in lines],
        'results': {row.name: {str(seed): result for seed, result in study.results(row).items()}
                    for row in study.rows},
        'failures': [{'row': name, 'seed': seed, 'reason': reason} for (name, seed), reason in study.failures.items()]})
    return text


def format_markdown(lines):
    """Lines -> two tables: of the autoencoders and their latents, and of the diffusion with the differences."""
    tables = []
    for part in ('autoencoder', 'diffusion'):
        columns = [column for column in COLUMNS if (column.verdict or column.part == 'diffusion') == (
            part == 'diffusion')]
        header = ['model']
        for column in columns:
            header += [f'{column.title} {ARROWS[column.higher_is_better]}'.rstrip()] + ['Δ'] * column.verdict
        header += ['seeds', 'latents'] + ['parameters, M'] * (part == 'autoencoder') + ['training, s']
        table = [header, ['---'] * len(header)]
        for line in lines:
            cells = [f'`{line.name}`']
            for column in columns:
                score = line.scores.get(column.key)
                cells += [_value(score)] + [_difference(score)] * column.verdict
            cells += [str(len(line.seeds)), '–' if line.shape is None else 'x'.join(map(str, line.shape))]
            if part == 'autoencoder':
                cells += ['–' if line.parameters is None else f'{line.parameters / 1e6:.2f}',
                          _seconds(line.autoencoder_s)]
            else:
                cells.append(_seconds(line.diffusion_s))
            table.append(cells)
        tables.append('\n'.join(f'| {" | ".join(cells)} |' for cells in table))
    return '\n\n'.join(reversed(tables))


def describe(study, lines, command):
    """The lines below the tables: what the numbers are, what failed, the hours and the command."""
    settings, parts = study.settings, []
    parts.append(
        f'{settings.crops} crops of {settings.size} px for the flows, {settings.val_crops} others for all scores '
        f'but FD; {settings.steps} updates of each flow; FD of {settings.samples} samples to {settings.real} training '
        f'crops; Fréchet distances of {study.network.description}. Seeds {" ".join(map(str, study.seeds))}. ± is the '
        '95 % confidence interval of the mean over seeds (Student t).')
    if lines[0].repeated and len(lines) > 1:
        parts.append(f'Δ: to `{lines[0].name}`, paired by seed; bold where it is larger than its interval. Each Δ is '
                     'tested by itself: of twenty without any effect one would be bold.')
    single = [f'`{line.name}`' for line in lines if not line.repeated]
    if single:
        parts.append(f'{", ".join(single)}: one autoencoder, so no Δ, and an interval over seeds of the flow alone.')
    for (name, seed), reason in study.failures.items():
        parts.append(f'Failed: `{name}`, seed {seed}: {reason}')
    parts.append(f'{sum(line.seconds for line in lines) / 3600:.1f} hours in all, trainings of autoencoders included '
                 'where their logs tell.')
    return '\n\n'.join([' '.join(parts), f'```bash\n{command}\n```'])


def _value(score):
    if score is None:
        return '–'
    return _number(score.mean) + ('' if score.ci95 is None else f' ± {_number(score.ci95)}')


def _difference(score):
    if score is None or score.difference is None:
        return ''
    text = f'{"+" if score.difference >= 0 else "-"}{_number(abs(score.difference))}'
    if score.difference_ci95 is not None:
        text += f' ± {_number(score.difference_ci95)}'
    return f'**{text}**' if score.is_beyond else text


def _number(value):
    """Three digits or so."""
    if abs(value) >= 1000:
        return f'{value:.0f}'
    if abs(value) >= 10:
        return f'{value:.2f}'
    return f'{value:.3f}' if abs(value) >= 0.1 or value == 0 else f'{value:.2g}'


def _seconds(value):
    return '–' if value is None else f'{value:.0f}'


def _record(line):
    record = {'model': line.name, 'repeated': line.repeated, 'seeds': len(line.seeds),
              'latents': line.shape and 'x'.join(map(str, line.shape)), 'parameters': line.parameters,
              'autoencoder_s': line.autoencoder_s, 'diffusion_s': line.diffusion_s, 'seconds': line.seconds}
    for column in COLUMNS:
        score = line.scores.get(column.key)
        for name in ('mean', 'ci95', 'difference', 'difference_ci95'):
            record[column.key if name == 'mean' else f'{column.key}_{name}'] = getattr(score, name, None)
    return record
