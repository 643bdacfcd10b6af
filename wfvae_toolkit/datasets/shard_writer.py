"""Write pictures into tar shards, which `ImageShards` reads."""

import collections
import concurrent.futures
import hashlib
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..utils.errors import SettingError
from ..utils.files import atomic_write, printable, remove_unfinished, write_json
from ..utils.progress import progress
from ..utils.seeding import mix_seed
from .bad_files import BadFile
from .extras import read_extras
from .image_files import open_images
from .images import BadImage, read_size, readable_extensions, reason_of
from .manifest import ImageManifest
from .shards import RECORD, ImageShards

FORMAT = 'wfvae_toolkit shards 1'
_AHEAD = 16  # pictures that are read while others are written
_UNITS = {'': 1, 'K': 1000, 'M': 1000**2, 'G': 1000**3, 'KI': 1024, 'MI': 1024**2, 'GI': 1024**3}


class WrittenShards(NamedTuple):
    """What `write_shards` did."""

    pictures: int
    shards: int
    left_out: list[BadFile]  # pictures whose header cannot be read


def write_shards(data, out, shard_size='1GB', seed=None, mask_keys=(), allow_outside=False):
    """Write pictures into ``out/00000.tar``, ``00001.tar``, ..., and their index.

    A picture is copied byte by byte, as ``000000012.jpg``: the number counts all pictures. Its name in ``data`` and
    the other fields of a manifest go into ``000000012.json``. Equal input gives equal bytes. If the job is stopped, the
    same call goes on after the last whole shard; ``make_shards.json`` keeps what it needs for that.

    Args:
        data (str | Path): as of `open_images`.
        out (str | Path): a folder, made if missing.
        shard_size (str): largest size of the members of a shard, such as ``'1GB'`` or ``'500MB'``. A larger picture
            has a shard of its own.
        seed (int): write the pictures in random order, so that neighbouring shards do not hold one subject; None: in
            the order of ``data``.
        mask_keys (sequence of str): of a manifest, see `ImageManifest`; the mask is written as ``000000012.KEY.png``,
            with the suffix of its file.
        allow_outside (bool): of a manifest.

    Returns:
        WrittenShards

    Raises:
        MissingFile: there is no ``data``.
        SettingError: ``out`` holds shards of something else, or there is no picture.
    """
    out = Path(out).expanduser()
    limit = parse_bytes(shard_size)
    if mask_keys:
        dataset = ImageManifest(data, option='the path given', allow_outside=allow_outside, mask_keys=mask_keys)
    else:
        dataset = open_images(data, allow_outside=allow_outside)
    order = range(len(dataset)) if seed is None else np.random.default_rng(
        mix_seed('order', seed)).permutation(len(dataset)).tolist()
    out.mkdir(parents=True, exist_ok=True)
    record = _read_record(out, {'format': FORMAT, 'names': _digest(dataset), 'shard_size_bytes': limit, 'seed': seed,
                                'mask_keys': list(mask_keys)})
    begin = record['shards'][-1]['end'] if record['shards'] else 0
    samples = progress(_samples(dataset, order, begin), 'pictures written', len(order) - begin)
    _write_all(samples, out, limit, record)
    left_out = [BadFile(row['path'], row['reason']) for row in record['left_out']]
    count = sum(shard['pictures'] for shard in record['shards'])
    if not count:
        raise SettingError(f'{out}: no picture is written, because none of {len(left_out)} can be read; the first is '
                           f'{left_out[0].path}: {left_out[0].reason}')
    written = len(ImageShards(out, option='OUT'))  # makes the index
    if written != count:
        raise SettingError(f'{out}: {written} pictures can be read back of {count} written: remove the folder and '
                           'start again')
    return WrittenShards(count, len(record['shards']), left_out)


def parse_bytes(text):
    """'1GB', '500 MB', '2GiB' or '1000' -> bytes; SettingError otherwise."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*(K|M|G|KI|MI|GI|)B?', str(text).strip().upper())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 1:
        raise SettingError(f'shard size {text!r}: use a size such as 1GB, 500MB or 2GiB')
    return size


def _digest(dataset):
    digest = hashlib.blake2b(digest_size=16)
    for index in range(len(dataset)):
        digest.update(dataset.path(index).encode('utf-8', 'surrogatepass') + b'\0')
    return digest.hexdigest()


def _read_record(out, settings):
    """What an earlier call has finished, with the shards that are whole; SettingError if it did something else."""
    remove_unfinished(out, ['*.tar', RECORD])
    path = out / RECORD
    record = {'settings': settings, 'shards': [], 'left_out': []}
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding='utf-8'))
            if earlier['settings'] == settings:
                record = earlier
        except (ValueError, LookupError, TypeError) as error:
            raise SettingError(f'{path} is damaged ({error}): remove the folder and start again') from error
        if record is not earlier:
            raise SettingError(f'{out} holds shards of other pictures, or made with other settings: choose another '
                               'folder, or remove it')
    whole = [(out / shard['name']).exists() and (out / shard['name']).stat().st_size == shard['bytes']
             for shard in record['shards']]
    kept = (whole + [False]).index(False)
    end = record['shards'][kept - 1]['end'] if kept else 0
    record['shards'] = record['shards'][:kept]
    record['left_out'] = [row for row in record['left_out'] if row['number'] < end]
    foreign = sorted({path.name for path in out.glob('*.tar')} - {_name(number) for number in range(len(whole) + 1)})
    if foreign:
        raise SettingError(f'{out} holds {foreign[0]}, which this call has not written: choose another folder')
    return record


def _name(number):
    return f'{number:05d}.tar'


def _samples(dataset, order, begin):
    """Yield (number, [(suffix, content)] or BadFile) from number ``begin`` on, read ahead by threads."""
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for number in range(begin, len(order)):
            waiting.append((number, threads.submit(_read, dataset, order[number])))
            if len(waiting) > _AHEAD:
                number, future = waiting.popleft()
                yield number, future.result()
        for number, future in waiting:
            yield number, future.result()


def _read(dataset, index):
    """[(suffix, content)] of a sample's members, or why it is left out, a BadFile."""
    name = dataset.path(index)
    try:
        source = dataset.read(index)
        read_size(source, dataset.max_pixels)
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        others = dataset.others(index) if isinstance(dataset, ImageShards) else {
            f'{key}{Path(mask.source).suffix.lower()}': Path(mask.source).read_bytes()
            for key, mask in dataset.extras(index).items() if read_extras({key: mask})}
        fields = dataset.fields(index) if hasattr(dataset, 'fields') else {}
    except BadImage as error:
        return BadFile(printable(name), error.reason)
    except OSError as error:
        return BadFile(printable(name), reason_of(error))
    fields = {**{key: value for key, value in fields.items() if key not in getattr(dataset, 'mask_keys', ())},
              'path': fields.get('path', name)}
    # ASCII, because a name need not be valid UTF-8.
    row = json.dumps(fields, sort_keys=True, default=str).encode('ascii')
    return [(_suffix(name, content), content), ('json', row), *others.items()]


def _suffix(name, content):
    """Suffix of a picture's name, or the usual one of its format."""
    suffix = os.path.splitext(name)[1].lower().removeprefix('.')
    if suffix in readable_extensions():
        return suffix
    with Image.open(io.BytesIO(content)) as image:
        form = image.format.lower()
    return {'jpeg': 'jpg', 'jpeg2000': 'jp2', 'tiff': 'tif'}.get(form, form)


def _write_all(samples, out, limit, record):
    """Write shard by shard; the record is written after each."""
    waiting = next(samples, None)
    while waiting is not None:
        path, pictures, left_out, size = out / _name(len(record['shards'])), 0, [], 0
        with atomic_write(path) as file, tarfile.open(fileobj=file, mode='w', format=tarfile.USTAR_FORMAT) as archive:
            while waiting is not None:
                number, sample = waiting
                if isinstance(sample, BadFile):
                    left_out.append({'number': number, **sample._asdict()})
                else:
                    more = sum(len(content) for _, content in sample)
                    if size and size + more > limit:
                        break
                    _add(archive, number, sample)
                    pictures, size = pictures + 1, size + more
                end, waiting = number + 1, next(samples, None)
        record['left_out'] += left_out
        record['shards'].append({'name': path.name, 'pictures': pictures, 'end': end, 'bytes': path.stat().st_size})
        write_json(out / RECORD, record)


def _add(archive, number, sample):
    for suffix, content in sample:
        # Nothing of the time or the user, so that equal input gives equal bytes.
        info = tarfile.TarInfo(f'{number:09d}.{suffix}')
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
