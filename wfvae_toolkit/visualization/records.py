"""Log rows of a run, as JSON lines and CSV."""

import csv
import json
import math
from pathlib import Path

from wfvae_toolkit.utils.errors import SettingError, is_number
from wfvae_toolkit.utils.files import atomic_write, write_errors


class RecordWriter:
    """``log.jsonl`` (all rows, with their ``phase``) and ``PHASE.csv`` in a run's folder.

    A value that is not finite is null in JSON and empty in CSV.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self._columns = {}

    def write(self, phase, row):
        """Append ``row``, which has ``iteration``; if it has a new column, the CSV is written anew."""
        row = {name: value if isinstance(value, int) or math.isfinite(value) else None for name, value in row.items()}
        path = self.folder / 'log.jsonl'
        with write_errors(path), open(path, 'a', encoding='utf-8') as file:
            file.write(json.dumps({'phase': phase, **row}, allow_nan=False) + '\n')
        path = self.folder / f'{phase}.csv'
        columns = self._columns.get(phase) or _header(path)
        new = [name for name in row if name not in columns]
        self._columns[phase] = columns = columns + new
        if new:
            _write_csv(path, columns, _read_csv(path))
        with write_errors(path), open(path, 'a', encoding='utf-8', newline='') as file:
            csv.DictWriter(file, columns).writerow(row)

    def cut(self, iteration):
        """Delete rows after ``iteration``, for a run that is resumed from there."""
        rows = [row for row in read_records(self.folder) if row['iteration'] <= iteration]
        with atomic_write(self.folder / 'log.jsonl', 'w') as file:
            file.writelines(json.dumps(row) + '\n' for row in rows)
        for phase in ('train', 'val'):
            path = self.folder / f'{phase}.csv'
            if path.is_file():
                # Use log.jsonl, not the CSV: a last line cut off after "2" may have been iteration 200.
                _write_csv(path, _header(path), [row for row in rows if row['phase'] == phase])


def read_records(folder):
    """Rows of ``log.jsonl``, without an incomplete last line (of a run killed while writing).

    Raises:
        SettingError: a line is not a row of a log.
    """
    path = Path(folder) / 'log.jsonl'
    if not path.is_file():
        return []
    return [_row(line, f'{path}, line {number}') for number, line in enumerate(path.read_bytes().split(b'\n')[:-1], 1)]


def _row(line, place):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SettingError(f'{place}: not a row of a log ({error}); mend or remove the line') from None
    if not (isinstance(row, dict) and is_number(row.get('iteration'), whole=True)
            and isinstance(row.get('phase'), str)):
        raise SettingError(f'{place}: not a row of a log, it lacks an iteration or a phase; mend or remove the line')
    return row


def _header(path):
    if not path.is_file():
        return []
    with open(path, encoding='utf-8', newline='') as file:
        return next(csv.reader(file), [])


def _read_csv(path):
    if not path.is_file():
        return []
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def _write_csv(path, columns, rows):
    with atomic_write(path, 'w') as file:
        writer = csv.DictWriter(file, columns, extrasaction='ignore')
        writer.writeheader()
        writer.writerows(rows)
