"""Summaries as plain text."""

import sys

from .statistics import FEWEST
from .worst import describe_faults, describe_worst

ARROWS = {True: '↑', False: '↓', None: ''}


def format_table(summary):
    """Plain text: one line for each metric, with a column for each set of weights; what is missing; the protocol."""
    prefixes = list(dict.fromkeys(column.rpartition('/')[0] for column in summary.metrics))
    titles = {'': 'EMA' if len(prefixes) > 1 else 'mean'}
    table = [['metric', *(titles.get(prefix, prefix) for prefix in prefixes)]]
    for name in dict.fromkeys(column.rpartition('/')[2] for column in summary.metrics):
        found = [summary.metrics.get(f'{prefix}/{name}' if prefix else name) for prefix in prefixes]
        arrow = ARROWS[next(filter(None, found))['higher_is_better']]
        table.append([f'{name} {arrow}'.rstrip(), *(
            '' if entry is None else _format(entry, summary.images) for entry in found)])
    lines = _aligned(table) + _notes(summary.metrics.items())
    lines += [f'not computed: {name}: {reason}' for name, reason in summary.not_computed.items()]
    lines += ['', f'{summary.images} images, {len(summary.skipped)} skipped'
              + (f'; no intervals: they need {FEWEST} images or more' if summary.images < FEWEST else '')]
    lines += [f'{key}: {value}' for key, value in summary.protocol.items()]
    return '\n'.join(lines)


def _format(entry, images):
    counts = [f'{entry[kind]} {kind}' for kind in ('infinite', 'nan') if entry[kind]]
    if 'images' in entry:
        counts.append(f'whole set of {entry["images"]}')
    mean = 'n/a' if entry['mean'] is None else _number(entry['mean'])
    interval = '' if entry['ci95'] is None or images < FEWEST else f' +- {_number(entry["ci95"])}'
    return mean + interval + (f' ({", ".join(counts)})' if counts else '')


def _number(value):
    """Four digits after the point; of small numbers, such as some distances of sets, three that count."""
    return f'{value:.4f}' if value == 0 or abs(value) >= 0.01 else f'{value:.3g}'


def _notes(entries):
    """(column, entry) pairs -> lines of what must be known of scores, once for all weights and protocols."""
    return list(dict.fromkeys(f'{column.rpartition("/")[2]}: {"; ".join(entry["notes"])}' for column, entry in entries
                              if entry.get('notes')))


def format_protocols(summaries):
    """{name of a protocol: EvaluationSummary} of one model -> a line for each metric, a column for each protocol."""
    columns = list(dict.fromkeys(column for summary in summaries.values() for column in summary.metrics))
    table = [['metric', *summaries]]
    for column in columns:
        found = [summary.metrics.get(column) for summary in summaries.values()]
        arrow = ARROWS[next(filter(None, found))['higher_is_better']]
        table.append([f'{column} {arrow}'.rstrip(), *(
            '' if entry is None else _format(entry, summary.images)
            for entry, summary in zip(found, summaries.values(), strict=True))])
    lines = _aligned(table) + _notes(item for summary in summaries.values() for item in summary.metrics.items())
    lines += ['', 'May stand beside:']
    lines += [f'{name}: {summary.protocol["may_stand_beside"]}' for name, summary in summaries.items()]
    return '\n'.join(lines)


def print_results(summaries, places=None):
    """Print {name of a protocol: EvaluationSummary}, and where each was written (``places``); faults go to stderr.

    Several protocols are compared in one more table at the end.
    """
    for name, summary in summaries.items():
        if len(summaries) > 1:
            print(f'\n{name}\n')
        print('\n'.join([format_table(summary), *describe_worst(summary)]))
        if places:
            print(f'\nwritten to {places[name]}/: summary.json, metrics.csv, pictures/')
        for line in describe_faults(summary):
            print(line, file=sys.stderr)
    if len(summaries) > 1:
        print(f'\n{format_protocols(summaries)}')


def _aligned(table):
    """Rows of cells -> lines, with a rule below the first."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, '-' * max(map(len, lines)))
    return lines
