"""Is one run better than another? Paired intervals over the same images; and where two configs differ."""

from wfvae_toolkit.evaluation.statistics import FEWEST, block_interval, paired_difference
from wfvae_toolkit.utils.urls import shown_url

# Of two protocols, so that their scores may be compared; the value that a summary without the key stands for.
_SAME = {'protocol': 'ours', 'pipeline': None, 'quantize': None}


def compare_entries(base, other):
    """Two entries -> a dict for each metric of both: ``metric``, ``images``, ``mean``, ``ci95``, ``verdict``.

    ``mean`` is ``other - base`` over the images of both. ``verdict`` is 'better', 'worse', 'no difference shown' (the
    interval includes zero) or 'changed' (neither direction is better). Without an interval it is the reason why.
    """
    first, second = base.evaluation, other.evaluation
    if first is None or second is None:
        return []
    results = []
    for metric, entry in first.summary['metrics'].items():
        if metric not in second.summary['metrics'] or '/' in metric:
            continue
        before, after = first.values(metric), second.values(metric)
        paths = [path for path in before if path in after]
        if not before or not after:
            results.append(_of_whole_sets(metric, entry, second.summary['metrics'][metric], _other_images(
                first, second) or _other_protocol(first, second)))
            continue
        results.append(_result(metric, entry['higher_is_better'], [before[path] for path in paths],
                               [after[path] for path in paths], _other_protocol(first, second)))
    return results


def _result(metric, higher_is_better, before, after, objection):
    count = len(before)
    if not count:
        return _without(metric, 0, 'no image was scored in both')
    difference = paired_difference(before, after)
    result = {'metric': metric, 'images': count, 'mean': difference['mean'], 'ci95': difference['ci95']}
    if objection:
        return {**result, 'ci95': None, 'verdict': objection}
    if difference['mean'] is None or difference['infinite']:
        return {**result, 'ci95': None, 'verdict': 'some scores are not finite'}
    if count < FEWEST:
        return {**result, 'ci95': None, 'verdict': f'{count} images: too few for an interval'}
    return {**result, 'verdict': verdict(difference['mean'], difference['ci95'], higher_is_better)}


def _of_whole_sets(metric, before, after, objection):
    """Two entries of a score of the whole set; paired by blocks of images where they have some."""
    if objection or before['mean'] is None or after['mean'] is None:
        return _without(metric, 0, objection or 'some scores are not finite')
    result = {'metric': metric, 'images': before.get('images', 0), 'mean': after['mean'] - before['mean'], 'ci95': None}
    blocks = before.get('blocks', ()), after.get('blocks', ())
    if not blocks[0] or len(blocks[0]) != len(blocks[1]):
        return {**result, 'verdict': 'one number for all images: no interval'}
    ci95 = block_interval([other - base for base, other in zip(*blocks, strict=True)])
    return {**result, 'ci95': ci95, 'verdict': verdict(result['mean'], ci95, before['higher_is_better'])}


def _other_images(first, second):
    """Why scores of whole sets may not be compared, or ''."""
    return '' if list(first.rows) == list(second.rows) else 'scored on other images'


def verdict(mean, ci95, higher_is_better):
    """A difference and half its interval -> 'better', 'worse', 'changed' or 'no difference shown'."""
    if abs(mean) <= ci95:
        return 'no difference shown'
    if higher_is_better is None:
        return 'changed'
    return 'better' if (mean > 0) == higher_is_better else 'worse'


def _without(metric, images, why):
    return {'metric': metric, 'images': images, 'mean': None, 'ci95': None, 'verdict': why}


def _other_protocol(first, second):
    """Why the scores of two evaluations may not be compared, or ''."""
    protocols = first.summary['protocol'], second.summary['protocol']
    for key, default in _SAME.items():
        before, after = (protocol.get(key, default) for protocol in protocols)
        if before != after:
            return f'scored in another way: {key} is {before} and {after}'
    return ''


def flatten(config, path=''):
    """Nested settings -> {dotted key: value as text}; rows of lists are entered if they are dicts."""
    rows = {}
    entered = isinstance(config, (list, tuple)) and any(isinstance(item, dict) for item in config)
    if isinstance(config, dict) and config or entered:
        for key, value in config.items() if isinstance(config, dict) else enumerate(config):
            rows.update(flatten(value, f'{path}.{key}' if path else str(key)))
        return rows
    return {path: repr(_as_lists(config))}


def _as_lists(value):
    """Tuples as lists: a config that was read again has one in place of the other. URLs without credentials."""
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else shown_url(value)


def differing_settings(configs):
    """Configs -> list of (dotted key, [its value as text in each, None where there is no such key])."""
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    rows = [(key, [config.get(key) for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if key != 'work_dir' and len(set(values)) > 1]
