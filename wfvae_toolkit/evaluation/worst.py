"""Which images came out worst."""

import glob
import math
from pathlib import Path

from wfvae_toolkit.visualization.pictures import comparison_grid, write_picture

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


def write_worst(summary, folder, images_of):
    """Write ``COLUMN_1_NAME.png`` and so on, input, reconstruction and error side by side, the worst first.

    Args:
        summary (EvaluationSummary): whose `worst_images` are meant.
        folder (str | Path): made if there is something to write.
        images_of (callable): path of a row -> target and reconstruction, (1, 3, H, W) in [-1, 1].
    """
    for column, images in worst_images(summary).items():
        for place, (path, _) in enumerate(images, 1):
            name = Path(folder) / f'{column}_{place}_{Path(path).stem}.png'
            name.parent.mkdir(parents=True, exist_ok=True)
            for earlier in name.parent.glob(f'{glob.escape(column)}_{place}_*.png'):
                earlier.unlink()
            write_picture(comparison_grid(*images_of(path)), name)
