"""Entries -> what the templates show, as plain data."""

import re
import shlex
from datetime import timedelta

from wfvae_toolkit.evaluation.statistics import FEWEST
from wfvae_toolkit.utils.urls import shown_url

from .compare import compare_entries, differing_settings, flatten, verdict
from .read import is_finite

ARROWS = {True: 'higher is better', False: 'lower is better', None: ''}
_CHANNEL = re.compile(r'^(?P<row>.+)\.(?P<what>mean|std|kl)\.(?P<number>\d+)$')  # columns of LatentChannels


def describe(entries, studies, printable):
    """Entries and ablations -> names of the templates; ``printable`` makes text of any file name."""
    described = [_entry(entry, printable) for entry in entries]
    metrics = _metrics(entries)
    labels = [entry['label'] for entry in described]
    with_config = [number for number, entry in enumerate(entries) if entry.config is not None]
    return {
        'title': labels[0] if len(labels) == 1 else f'{labels[0]} and {len(labels) - 1} more',
        'entries': described, 'labels': labels, 'metrics': metrics,
        'scores': [{'name': metric['name'], 'title': metric['title'],
                    'cells': [_score(entry, metric['name']) for entry in entries]}
                   for metric in metrics if not _CHANNEL.match(metric['name'])],
        'fewest': FEWEST, 'few': any(entry.evaluation and entry.evaluation.summary['images'] < FEWEST
                                     for entry in entries),
        'comparisons': _comparisons(entries),
        'lacks': _grouped(described),
        'studies': [_study(printable(name), rows, {metric['name']: metric['better'] for metric in metrics})
                    for name, rows in studies],
        'latents': [_latents(entry) for entry in entries], 'spectra': [_spectrum(entry) for entry in entries],
        'without_maps': [_why_no_maps(entry) for entry in entries],
        'configs': [labels[number] for number in with_config],
        'differences': differing_settings([entries[number].config for number in with_config])
        if len(with_config) > 1 else [],
        'whole': [None if entry.config is None else sorted(flatten(entry.config).items()) for entry in entries]}


def _grouped(described):
    """Sentences about what is not there -> [(sentence, labels of those that lack it)]."""
    found = {}
    for entry in described:
        for sentence in entry['lacks']:
            found.setdefault(sentence, []).append(entry['label'])
    return list(found.items())


def discriminator_start(entry):
    """Iteration at which the adversarial terms begin, or None."""
    if entry.config is not None:
        hook = (entry.config.get('default_hooks') or {}).get('discriminator') or {}
        has_one = (entry.config.get('model') or {}).get('discriminator')
        return hook.get('start_iter', 0) if has_one else None
    return next((row['iteration'] for row in entry.records if 'discriminator' in row), None)


def _entry(entry, printable):
    config = entry.config or {}
    trained = [row for row in entry.records if row['phase'] == 'train']
    done = trained[-1]['iteration'] if trained else 0
    wanted = (config.get('train_cfg') or {}).get('max_iters')
    return {
        'label': printable(entry.label), 'folder': printable(entry.folder), 'run': entry.run is not None,
        'facts': [(name, value) for name, value in _facts(entry, config, trained, done, wanted) if value],
        'lacks': _lacks(entry, done, wanted, printable),
        'protocol': list(entry.evaluation.summary['protocol'].items()) if entry.evaluation else [],
        'skipped': entry.evaluation.summary.get('skipped', []) if entry.evaluation else [],
        'not_computed': list(entry.evaluation.summary.get('not_computed', {}).items()) if entry.evaluation else [],
        'command': _command(entry, printable)}


def _facts(entry, config, trained, done, wanted):
    autoencoder = (config.get('model') or {}).get('autoencoder') or {}
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    environment = entry.facts.get('environment', {})
    protocol = entry.evaluation.summary['protocol'] if entry.evaluation else {}
    yield 'model', autoencoder.get('type') or protocol.get('model')
    yield 'parameters', ', '.join(
        f'{part} {count / 1e6:.3g} M'
        for part, count in entry.facts.get('parameters', {}).items()) or protocol.get('parameters')
    images = entry.facts.get('training_images')
    yield 'trained on', ', '.join(filter(None, [str(shown_url(dataset.get('data_root')) or dataset.get('type') or ''),
                                                f'{images} images' if images else '']))
    if entry.run:
        yield 'iterations', f'{done} of {wanted}' if wanted else str(done)
        seconds, before = 0.0, 0
        for row in trained:
            seconds += (row.get('seconds_per_iteration') or 0.0) * (row['iteration'] - before)
            before = row['iteration']
        yield 'time in updates', str(timedelta(seconds=round(seconds))) if trained else ''
        peak = max((row['peak_memory_gib'] for row in trained if is_finite(row.get('peak_memory_gib'))), default=None)
        yield 'peak memory', None if peak is None else f'{peak:.2f} GiB'
    seed = entry.facts.get('seed', (config.get('randomness') or {}).get('seed'))
    yield 'seed', None if seed is None else str(seed)
    for name in ('device', 'processes', 'wfvae_toolkit', 'python', 'packages'):
        yield name, environment.get(name)
    if entry.evaluation:
        source = protocol.get('data_root') or protocol.get('real')
        yield 'scored on', f'{entry.evaluation.summary["images"]} images' + (f' of {source}' if source else '')
        yield 'scored', protocol.get('checkpoint') or protocol.get('reconstructed')


def _lacks(entry, done, wanted, printable):
    """Sentences about what is not there."""
    found = []
    if entry.run and not done:
        found.append('No iteration is logged yet.')
    elif wanted and done < wanted:
        found.append(f'Not finished: iteration {done} of {wanted}.')
    if entry.evaluation is None:
        config = printable(entry.config_file or 'CONFIG')
        found.append(f'Not scored image by image. Run: python tools/test.py {config} {printable(entry.folder)}')
    else:
        if not entry.run and not entry.evaluation.of_folders:
            found.append('The folder of the training is not known: no curves and no settings.')
        if not entry.evaluation.pictures:
            found.append('No pictures are there: only scores.')
        found += [f'{name} is not computed: {why}' for name, why in
                  entry.evaluation.summary.get('not_computed', {}).items()]
        if skipped := entry.evaluation.summary.get('skipped'):
            found.append(f'{len(skipped)} images could not be scored.')
    if entry.run and entry.config is None:
        found.append('Its settings cannot be read: no config, or one that is more than plain values.')
    if entry.run and not entry.facts:
        found.append('Machine and versions are not recorded: run.json is not there.')
    return found


def _command(entry, printable):
    if entry.config_file is None:
        return None
    words = ['python', 'tools/train.py', printable(entry.config_file), '--work-dir', 'work_dirs/again']
    if 'seed' in entry.facts and (entry.config or {}).get('randomness', {}).get('seed') is None:
        words += ['--cfg-options', f'randomness.seed={entry.facts["seed"]}']
    return shlex.join(words)


def _metrics(entries):
    """Columns of all entries -> dicts of ``name``, ``better``, ``title``, ``per_image``; averaged weights first."""
    found = {}
    for entry in entries:
        for name, score in (entry.evaluation.summary['metrics'] if entry.evaluation else {}).items():
            per_image = bool(entry.evaluation.values(name))
            before = found.get(name)
            found[name] = {'name': name, 'better': score.get('higher_is_better'),
                           'title': ARROWS[score.get('higher_is_better')],
                           'per_image': per_image or bool(before and before['per_image'])}
    return sorted(found.values(), key=lambda metric: '/' in metric['name'])


def _score(entry, name):
    """A cell of the table of scores: ``mean``, ``ci95``, ``note``."""
    score = entry.evaluation and entry.evaluation.summary['metrics'].get(name)
    if score:
        counts = [f'{score[kind]} {kind}' for kind in ('infinite', 'nan') if score.get(kind)]
        counts += score.get('notes', ())
        few = score.get('images', len(entry.evaluation.values(name))) < FEWEST
        return {'mean': score['mean'], 'ci95': None if few else score.get('ci95'), 'note': ', '.join(counts)}
    if entry.evaluation is None:
        rows = [row for row in entry.records if row['phase'] == 'val' and is_finite(row.get(name))]
        if rows:
            return {'mean': rows[-1][name], 'ci95': None, 'note': f'while training, iteration {rows[-1]["iteration"]}'}
    return {'mean': None, 'ci95': None, 'note': 'not scored'}


def _comparisons(entries):
    """One dict an entry to compare with: ``base``, ``metrics``, ``rows`` of (entry's number, {metric: result})."""
    scored = [number for number, entry in enumerate(entries) if entry.evaluation]
    found = []
    for base in scored if len(scored) > 1 else ():
        rows = [(other, {result['metric']: result for result in compare_entries(entries[base], entries[other])})
                for other in scored if other != base]
        metrics = list(dict.fromkeys(metric for _, results in rows for metric in results))
        found.append({'base': base, 'rows': rows, 'metrics': [name for name in metrics if not _CHANNEL.match(name)]})
    return found


def _study(name, rows, directions):
    """An ablation's table -> ``metrics``, and ``rows`` with mean, std, difference, ci95 and verdict a metric."""
    columns = list(rows[0]) if rows else []
    metrics = [column.removesuffix('_ci95') for column in columns if column.endswith('_ci95')]
    return {'name': name, 'metrics': metrics, 'rows': [{
        'config': row['config'], 'seeds': row['seeds'], 'iterations': row['iterations'],
        'scores': {metric: _study_score(row, metric, directions.get(metric)) for metric in metrics}} for row in rows]}


def _study_score(row, metric, better):
    columns = {'mean': metric, **{key: f'{metric}_{key}' for key in ('std', 'difference', 'ci95')}}
    score = {key: float(row[column]) if row.get(column) else None for key, column in columns.items()}
    known = score['difference'] is not None and score['ci95'] is not None
    return {**score, 'verdict': verdict(score['difference'], score['ci95'], better) if known else ''}


def _latents(entry):
    """Channels: ``source``, ``rows`` of dicts with ``mean``, ``std``, ``kl``, and what all ``lacks``; None: none."""
    source, rows = _channels(entry)
    if not rows:
        return None
    return {'source': source, 'rows': rows,
            'lacks': [name for name in ('mean', 'std', 'kl') if any(row[name] is None for row in rows)]}


def _spectrum(entry):
    """Means of LatentSpectrum: {'latents': (slope, high share), 'images': the same}; None if it was not measured."""
    metrics = entry.evaluation.summary['metrics'] if entry.evaluation else {}
    for name in metrics:
        row = name.removesuffix('.image_high_share')
        columns = [f'{row}.{prefix}{part}' for prefix in ('', 'image_') for part in ('slope', 'high_share')]
        if row != name and '/' not in row and all(column in metrics for column in columns):
            means = [metrics[column]['mean'] for column in columns]
            return {'latents': means[:2], 'images': means[2:]}
    return None


def _why_no_maps(entry):
    """A sentence if no channel maps are there, or ''."""
    if entry.evaluation is None:
        return 'No channel maps: it is not scored.'
    if entry.evaluation.of_folders:
        return 'No channel maps: folders of pictures have no latents.'
    return '' if entry.evaluation.maps else 'No channel maps: score it again with tools/test.py, which writes them.'


def _channels(entry):
    record = entry.latents
    if record.get('mean'):
        kl = record.get('kl_nats_per_position') or [None] * len(record['mean'])
        of = f' of {record["checkpoint"]}' if 'checkpoint' in record else ''
        return f'latent_statistics.json{of}, {record.get("images", "?")} images', [
            {'mean': mean, 'std': std, 'kl': nats}
            for mean, std, nats in zip(record['mean'], record['std'], kl, strict=True)]
    rows = {}
    for name, score in (entry.evaluation.summary['metrics'] if entry.evaluation else {}).items():
        if match := _CHANNEL.match(name):
            rows.setdefault(match['number'], dict.fromkeys(('mean', 'std', 'kl')))[match['what']] = score['mean']
    if rows:
        return 'the scored images', [rows[number] for number in sorted(rows)]
    logged = next((row for row in reversed(entry.records) if 'kl_channel/00' in row), None)
    if logged is None:
        return '', []
    return f'the log, iteration {logged["iteration"]}', [
        {'mean': None, 'std': None, 'kl': value} for name, value in logged.items() if name.startswith('kl_channel/')]
