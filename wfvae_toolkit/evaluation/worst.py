"""Which images came out worst."""

import math

SHOWN = 3


def worst_images(summary, count=SHOWN):
    """EvaluationSummary -> dict: column -> list of (path, value), the worst first.

    Columns of the main weights alone, of metrics whose direction is known. A value that is not a number is worst.
    """
    worst = {}
    for column, entry in summary.metrics.items():
        better = entry['higher_is_better']
        values = [(row['path'], row[column]) for row in summary.rows if column in row]
        if better is not None and '/' not in column and values:
            worst[column] = sorted(values, key=lambda item, sign=1 if better else -1: (
                not math.isnan(item[1]), sign * item[1]))[:count]
    return worst


def describe_worst(summary, count=SHOWN):
    """Lines of plain text, one a metric; none for a single image."""
    return [f'worst {column}: ' + ', '.join(f'{path} {value:.4f}' for path, value in images)
            for column, images in worst_images(summary, count).items() if summary.images > 1]


def describe_faults(summary):
    """Lines of plain text: each image that was not scored, and each column with scores that are not numbers (NaN)."""
    lines = [f'not scored: {bad["path"]}: {bad["reason"]}' for bad in summary.skipped]
    for column, entry in summary.metrics.items():
        if entry['nan']:
            paths = [row['path'] for row in summary.rows if math.isnan(row.get(column, 0.0))]
            of = f'{len(paths)} images, the first: {paths[0]}' if paths else 'the whole set'
            lines.append(f'not a number: {column} of {of}')
    return lines
