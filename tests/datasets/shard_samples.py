"""Tar shards that several test files need."""

import io
import tarfile

import numpy as np
from PIL import Image


def encoded(seed, size=(20, 24), form='JPEG', **options):
    """Bytes of a picture of noise, (height, width) px."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def write_tar(path, members, form=tarfile.USTAR_FORMAT, mtime=0):
    """A tar file of ``members``, (name, content) or TarInfo."""
    with tarfile.open(path, 'w', format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            archive.addfile(info, io.BytesIO(content))
    return path


def sample(number, content=None):
    """Members of a sample as img2dataset writes them."""
    name = f'{number:09d}'
    return [(f'{name}.jpg', encoded(number) if content is None else content),
            (f'{name}.json', b'{"caption": "number %d", "width": 24}' % number), (f'{name}.txt', b'text %d' % number)]


def write_shards_of(folder, counts):
    """``folder/00000.tar`` and so on, with so many samples each, numbered through."""
    folder.mkdir(exist_ok=True)
    number = 0
    for shard, count in enumerate(counts):
        write_tar(folder / f'{shard:05d}.tar',
                  [member for one in range(number, number + count) for member in sample(one)], tarfile.PAX_FORMAT, 1.5)
        number += count
    return folder


def many_members(first, count, content=b'\xff' * 100):
    """Bytes of a tar file of ``count`` members NUMBER.jpg of equal content, some hundred times as fast as tarfile."""
    info = tarfile.TarInfo(f'{0:09d}.jpg')
    info.size = len(content)
    padded = content.ljust(-(-len(content) // 512) * 512, b'\0')
    block = np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT) + padded, np.uint8)
    blocks = np.tile(block, (count, 1))
    digits = 10 ** np.arange(8, -1, -1)
    blocks[:, :9] = (first + np.arange(count))[:, None] // digits % 10 + ord('0')
    sums = blocks[:, :512].sum(1, dtype=np.int64) - blocks[:, 148:156].sum(1, dtype=np.int64) + 8 * 32
    blocks[:, 148:154] = sums[:, None] // 8 ** np.arange(5, -1, -1) % 8 + ord('0')
    return blocks.tobytes() + bytes(1024)
