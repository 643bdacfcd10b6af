"""Bad and odd tar shards, each beside a good shard of two samples, with what becomes of it.

An outcome is the number of its pictures that are used, and words of the log on what is not; or the words of an error
when a sample is read.
"""

import gzip
import io
import tarfile
from typing import NamedTuple

from tests.datasets.shard_samples import encoded, sample, write_tar

NAME = '00000.tar'  # of the odd shard; the good one is 00001.tar


class OddShard(NamedTuple):
    """What a user may have."""

    what: str
    write: object  # callable: path -> None
    pictures: int  # used of this shard
    said: str = ''  # in the remarks
    bad: str = ''  # reason for which one of those pictures is bad when it is read
    settings: dict = {}  # noqa: RUF012 - never changed

    @property
    def outcome(self):
        parts = [f'{self.pictures} picture{"s" * (self.pictures != 1)}']
        parts += [f'said: {self.said}'] * bool(self.said) + [f'bad file: {self.bad}'] * bool(self.bad)
        return '; '.join(parts)


def tar(*members, **settings):
    return lambda path: write_tar(path, members, **settings)


def changed(change, *members):
    """A writer of a tar file whose bytes ``change`` changes."""
    return lambda path: path.write_bytes(change(write_tar(path, members).read_bytes()))


def special(name, kind, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


TWO = [*sample(0), *sample(1)]
END_OF_TWO = 2 * (3 * 512 + 2 * 512) + sum(-(-len(content) // 512) * 512 for name, content in TWO if 'jpg' in name)
SHARDS = [
    OddShard('jpg, json and txt of each key, as img2dataset writes them', tar(*TWO), 2),
    OddShard('headers of pax, as webdataset writes them', tar(*TWO, form=tarfile.PAX_FORMAT, mtime=1.5), 2),
    OddShard('GNU format, names of 150 characters', tar(*[(f'{"d" * 140}/{name}', content) for name, content in TWO],
                                                         form=tarfile.GNU_FORMAT), 2),
    OddShard('pax format, names that are not ASCII', tar(*[(f'ä/{name}', content) for name, content in TWO],
                                                         form=tarfile.PAX_FORMAT), 2),
    OddShard('names that begin with ./', tar(*[(f'./{name}', content) for name, content in TWO]), 2),
    OddShard('suffix in capitals', tar(('a.JPG', encoded(0))), 1),
    OddShard('members of one key apart from each other', tar(*TWO[::3], *TWO[1::3], *TWO[2::3]), 2),
    OddShard('cut inside a picture', changed(lambda data: data[:END_OF_TWO // 2 + 600], *TWO), 1,
             'cut at byte'),
    OddShard('cut between two members', changed(lambda data: data[:END_OF_TWO], *TWO), 2, 'the end mark is missing'),
    OddShard('cut inside a header', changed(lambda data: data[:END_OF_TWO // 2 + 100], *TWO), 1, 'cut inside a header'),
    OddShard('damaged header of the second sample', changed(
        lambda data: data[:END_OF_TWO // 2] + b'?' * 512 + data[END_OF_TWO // 2 + 512:], *TWO), 1,
        'no tar header at byte'),
    OddShard('empty file', lambda path: path.write_bytes(b''), 0, 'the end mark is missing at byte 0'),
    OddShard('tar file without members', tar(), 0, '1 of the 2 shards hold no picture, such as 00000.tar'),
    OddShard('HTML error page', lambda path: path.write_bytes(b'<html>404</html>' * 99), 0, 'no tar header at byte 0'),
    OddShard('gzip under the name of a tar file', lambda path: path.write_bytes(gzip.compress(encoded(0))), 0,
             'a gzip file at byte 0'),
    OddShard('two tar files in one', changed(lambda data: data + data, *TWO), 2,
             '1 tar file after the end of another'),
    OddShard('key without a picture', tar(*TWO, ('b.json', b'{}')), 2, '1 keys without a picture'),
    OddShard('key with two pictures', tar(*TWO, ('b.jpg', encoded(2)), ('b.png', encoded(2, form='PNG'))), 2,
             '1 keys with several pictures'),
    OddShard('the same name twice', tar(*TWO, *TWO[:1]), 1, '1 keys with several pictures'),
    OddShard('picture under an extension of two parts', tar(*TWO, ('b.left.jpg', encoded(2))), 2,
             '1 keys without a picture'),
    OddShard('picture under an extension of two parts, on purpose', tar(*TWO, ('b.left.jpg', encoded(2))), 1,
             '4 keys without a picture', settings={'extensions': ['left.jpg']}),
    OddShard('member without suffix', tar(*TWO, ('README', b'')), 2, '1 without suffix'),
    OddShard('hidden member', tar(*TWO, ('.b.jpg', encoded(2))), 2, '1 hidden'),
    OddShard('link', tar(*TWO, special('b.jpg', tarfile.SYMTYPE, linkname='/etc/passwd')), 2, '1 link'),
    OddShard('device', tar(*TWO, special('b.jpg', tarfile.CHRTYPE)), 2, '1 device'),
    OddShard('folder', tar(special('photos', tarfile.DIRTYPE), *TWO), 2),
    OddShard('name that leads out of the folder', tar(*TWO, ('a/../../b.jpg', encoded(2))), 2,
             '1 names that leave the folder'),
    OddShard('absolute name', tar(('/etc/b.jpg', encoded(2))), 1),
    OddShard('picture that is none', tar(*TWO, ('b.jpg', b'text')), 3, bad='not an image'),
    OddShard('picture of zero bytes', tar(*TWO, ('b.jpg', b'')), 3, bad='zero bytes'),
    OddShard('truncated picture', tar(*TWO, ('b.jpg', encoded(2)[:300])), 3, bad='truncated'),
    OddShard('no text beside one picture, which extra_keys names', tar(*TWO, ('b.jpg', encoded(2))), 2,
             '1 keys without txt', settings={'extra_keys': ['txt']}),
    OddShard('broken JSON beside a picture', tar(*TWO, ('b.jpg', encoded(2)), ('b.json', b'{"caption": ')), 3,
             bad='json: expecting value', settings={'extra_keys': ['caption']}),
    OddShard('JSON without the key that extra_keys names', tar(*TWO, ('b.jpg', encoded(2)), ('b.json', b'{}')), 3,
             bad="json: lacks the key 'caption'", settings={'extra_keys': ['caption']}),
    OddShard('no mask beside one picture, which mask_keys names',
             tar(('b.jpg', encoded(2)), ('c.jpg', encoded(2)), ('c.mask.png', b'')), 1, '3 keys without mask.png',
             bad='mask: zero bytes', settings={'mask_keys': ['mask.png']}),
]


def good_shard():
    """Bytes of the shard beside the odd one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, content in [*sample(7), *sample(8)]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
