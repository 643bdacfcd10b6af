"""Writes the tables of docs/bad_input.md: ``python -m tests.datasets.write_bad_input``."""

import re
from pathlib import Path

from tests.datasets.odd_files import FILES, Bad
from tests.datasets.odd_manifests import MANIFESTS
from tests.datasets.odd_servers import SERVERS
from tests.datasets.odd_shards import SHARDS
from tests.datasets.odd_tables import TABLES as ODD_TABLES

PAGE = Path(__file__).resolve().parents[2] / 'docs/bad_input.md'


def file_row(odd):
    return f'| {odd.what} | {odd.outcome if not isinstance(odd.outcome, Bad) else bad(odd.outcome.reason)} |'


def bad(reason):
    return f'bad: {reason}' if reason else 'bad'


def manifest_row(odd):
    read = isinstance(odd.outcome, int)
    place = '' if odd.line is None else f', names line {odd.line}'
    return f'| {odd.what} | {f"read, {odd.outcome} pictures" if read else f"error: {odd.outcome}{place}"} |'


TABLES = {
    'pictures': ['| file | becomes |', '| --- | --- |', *map(file_row, FILES)],
    'shards': ['| shard | becomes |', '| --- | --- |', *(f'| {odd.what} | {odd.outcome} |' for odd in SHARDS)],
    'tables': ['| table | becomes |', '| --- | --- |', *(f'| {odd.what} | {odd.outcome} |' for odd in ODD_TABLES)],
    'servers': ['| server | becomes |', '| --- | --- |', *(f'| {odd.what} | {odd.outcome} |' for odd in SERVERS)],
    'manifests': ['| manifest | becomes |', '| --- | --- |', *map(manifest_row, MANIFESTS)],
}


def with_tables(text):
    """The page's text with the tables between their marks as the tests have them."""
    for name, lines in TABLES.items():
        begin, end = f'<!-- {name} -->\n', f'<!-- end of {name} -->'
        block = begin + '\n'.join(lines) + '\n' + end
        text = re.sub(f'{begin}.*?{end}', lambda match, block=block: block, text, flags=re.DOTALL)
    return text


if __name__ == '__main__':
    PAGE.write_text(with_tables(PAGE.read_text(encoding='utf-8')), encoding='utf-8')
