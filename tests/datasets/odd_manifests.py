"""Bad and odd manifests, beside the pictures 1.png, z.png and odd\\name.png, with what becomes of each.

An outcome is a number of pictures, or the words of the error at the start; it names the manifest and, where a line is
to blame, the line.
"""

import codecs
from typing import NamedTuple

GOOD = b'{"path": "1.png"}'


class OddManifest(NamedTuple):
    """What a user may have."""

    what: str
    content: bytes
    outcome: int | str  # pictures, or the error
    line: int | None = None  # that the error names
    settings: dict = {}  # noqa: RUF012 - never changed


def second(what, line, outcome, **settings):
    """A manifest whose line 2 is odd."""
    return OddManifest(what, GOOD + b'\n' + line + b'\n{"path": "z.png"}\n', outcome,
                       2 if isinstance(outcome, str) else None, settings)


MANIFESTS = [
    OddManifest('empty file', b'', 'names no picture'),
    OddManifest('blank lines alone', b'\n \n\t\r\n', 'names no picture'),
    OddManifest('byte order mark alone', codecs.BOM_UTF8, 'names no picture'),
    OddManifest('byte order mark, then a line', codecs.BOM_UTF8 + GOOD, 1),
    OddManifest('no end of the last line', GOOD + b'\n' + GOOD, 2),
    OddManifest('Windows ends of lines', GOOD + b'\r\n' + GOOD + b'\r\n', 2),
    second('blank line', b' \t', 2),
    second('comment', b'# half of them', 'Expecting value at column 1'),
    second('cut line', b'{"path": "1.p', 'Unterminated string'),
    second('two objects in a line', b'{"path": "1.png"} {"path": "z.png"}', 'Extra data'),
    second('comma after an object', b'{"path": "1.png"},', 'Extra data'),
    second('single quotes', b"{'path': '1.png'}", 'double quotes'),
    second('array', b'["1.png"]', 'not a JSON object'),
    second('bare path', b'1.png', 'at column'),
    second('null', b'null', 'not a JSON object'),
    second('no path', b'{"file": "1.png"}', 'holds no path: give one of image_path, path, target'),
    second('two paths', b'{"path": "1.png", "target": "z.png"}', 'holds path and target'),
    second('path twice', b'{"path": "1.png", "path": "z.png"}', "'path' appears twice"),
    second('key twice, deep inside', b'{"path": "1.png", "a": {"b": 1, "b": 1}}', "'b' appears twice"),
    second('path is a number', b'{"path": 1}', 'path is 1, not the path'),
    second('path is null', b'{"path": null}', 'path is None'),
    second('path is a list', b'{"path": ["1.png"]}', 'not the path'),
    second('path is empty', b'{"path": ""}', 'not the path'),
    second('NaN', b'{"path": "1.png", "score": NaN}', 'NaN is not JSON; use null'),
    second('Infinity', b'{"path": "1.png", "score": -Infinity}', 'Infinity is not JSON; use null'),
    second('number of 5,000 digits', b'{"path": "1.png", "n": ' + b'9' * 5000 + b'}', 'digits'),
    second('100,000 brackets', b'{"path": "1.png", "a": ' + b'[' * 100_000, 'recursion'),
    second('line of 4 MB', b'{"path": "1.png", "caption": "' + b'x' * 2**22 + b'"}', 3),
    second('Latin-1', '{"path": "ü.png"}'.encode('latin-1'), "can't decode byte"),
    second('UTF-16', '{"path": "1.png"}'.encode('utf-16'), "can't decode byte"),
    second('NUL in the path: a bad file when read', b'{"path": "1.png\\u0000.jpg"}', 3),
    second('half a surrogate pair', b'{"path": "\\ud83d.png"}', 3),
    second('absolute path', b'{"path": "/data/1.png"}', 'allow_outside=True'),
    second('absolute path, on purpose', b'{"path": "/data/1.png"}', 3, allow_outside=True),
    second('path above the folder', b'{"path": "../1.png"}', 'allow_outside=True'),
    second('path above the folder on a detour', b'{"path": "a/../../1.png"}', 'allow_outside=True'),
    second('.. that stays inside', b'{"path": "a/../1.png"}', 3),
    second('path to nothing: a bad file when read', b'{"path": "none.png"}', 3),
    second('path to a folder: a bad file when read', b'{"path": "."}', 3),
    second('same path twice: a picture each', GOOD, 3),
    second('separators of Windows', rb'{"path": "photos\\a.png"}', "write 'photos/a.png'"),
    second('separator of Windows in a name that is there', rb'{"path": "odd\\name.png"}', 3),
    second('path on a drive of Windows', rb'{"path": "C:\\photos\\a.png"}', 'a drive of Windows: write the path from'),
    second('path on a drive, other separators', b'{"path": "D:/photos/a.png"}', 'a drive of Windows: write the path'),
    second('path in the home of the user', b'{"path": "~/1.png"}', 'allow_outside=True'),
    OddManifest('UTF-16, as Windows programs write it', '{"path": "1.png"}\r\n'.encode('utf-16'), 'is in UTF-16', 1),
    OddManifest('UTF-16 without its mark', '{"path": "1.png"}'.encode('utf-16-le'), 'is in UTF-16', 1),
    OddManifest('a picture', b'\x89PNG\r\n\x1a\n' + bytes(99), "can't decode byte", 1),
    OddManifest('a pickle', b'\x80\x04cos\nsystem\n(S"false"\ntR.', "can't decode byte", 1),
    OddManifest('one JSON array over several lines', b'[\n  {"path": "1.png"}\n]', 'Expecting value', 1),
]
