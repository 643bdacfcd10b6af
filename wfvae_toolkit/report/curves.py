"""Logged rows -> columns to draw, of a bounded length."""

from .read import is_finite

MOST_ROWS = 2000  # of a phase; more are merged
_NOT_DRAWN = ('phase', 'iteration')


def curve_columns(records):
    """Rows of log.jsonl -> {phase: dict of ``iteration``, ``hours``, ``values`` ({name: list}), ``merged``}.

    ``hours`` is the time of the updates up to a row, waiting for data included; validation and starting are not in
    it. A value that is not finite is None. Of more than MOST_ROWS rows, ``merged`` neighbours become two: the lowest
    and the highest value of each name, so that no peak is lost.
    """
    hours, before, elapsed = {}, 0, 0.0
    for row in records:
        if row['phase'] == 'train':
            elapsed += (row.get('seconds_per_iteration') or 0.0) * (row['iteration'] - before)
            before = row['iteration']
        hours[id(row)] = elapsed / 3600
    return {phase: _columns([row for row in records if row['phase'] == phase], hours)
            for phase in dict.fromkeys(row['phase'] for row in records)}


def _columns(rows, hours):
    names = dict.fromkeys(name for row in rows for name, value in row.items()
                          if name not in _NOT_DRAWN and is_finite(value))
    merged = -(-2 * len(rows) // MOST_ROWS) if len(rows) > MOST_ROWS else 1
    columns = {'iteration': [], 'hours': [], 'values': {name: [] for name in names}, 'merged': merged}
    for start in range(0, len(rows), merged):
        group = rows[start:start + merged]
        ends = [group[0], group[-1]] if len(group) > 1 else group
        columns['iteration'] += [row['iteration'] for row in ends]
        columns['hours'] += [hours[id(row)] for row in ends]
        for name in names:
            columns['values'][name] += _low_and_high([row.get(name) for row in group], len(ends))
    return columns


def _low_and_high(values, count):
    """Values -> ``count`` of them (1 or 2): the lowest and the highest, in the order in which they came."""
    finite = [(value, place) for place, value in enumerate(values) if is_finite(value)]
    if count == 1 or not finite:
        return [finite[0][0] if finite else None] * count
    low, high = min(finite), max(finite)
    return [value for value, _ in sorted((low, high), key=lambda item: item[1])]
