"""Damaged copies of valid files: input number n of a seed is a pure function of both."""

import contextlib
import io
import json
import struct
import zipfile

import numpy as np
import torch
from PIL import Image

from wfvae_toolkit.checkpoints import save_training_checkpoint
from wfvae_toolkit.latents import LatentIndex
from wfvae_toolkit.registry import AUTOENCODERS

AUTOENCODER = dict(type='WFVAE2Image', latent_channels=2, widths=(4, 4), flow_width=4, mid_blocks=[])
NUMBERS = (0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff)
WORDS = (b'null', b'NaN', b'-1e999', b'\\u0000', b'\\ud83d', b'"', b'{', b'[' * 3000, b'}', b'true', b'9' * 5000,
         b'../', b'/etc/', b'\n', b'\r', b'\xff', b'\xef\xbb\xbf', b'__import__', b'.')


def pictures():
    """Valid pictures of every format and several modes, small: bytes each."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = dict(save_all=True, append_images=[colour.rotate(180)])
    kinds = [
        (colour, 'JPEG', {}), (colour, 'JPEG', dict(progressive=True, exif=exif)), (colour.convert('CMYK'), 'JPEG', {}),
        (colour.resize((160, 96)), 'JPEG', dict(quality=30)), (colour, 'PNG', dict(exif=exif)),
        (colour.quantize(16), 'PNG', dict(transparency=3)), (colour.convert('RGBA'), 'PNG', {}),
        (Image.fromarray(rng.integers(0, 65536, (9, 14), dtype=np.uint16)), 'PNG', {}), (colour, 'PNG', frames),
        (colour, 'WEBP', {}), (colour, 'WEBP', dict(lossless=True, **frames)), (colour, 'TIFF', {}),
        (colour, 'TIFF', dict(compression='tiff_lzw')), (colour, 'TIFF', dict(compression='tiff_adobe_deflate')),
        (Image.fromarray(rng.random((9, 14), dtype=np.float32)), 'TIFF', frames | dict(append_images=[])),
        (colour, 'BMP', {}), (colour.convert('L'), 'GIF', {}), (colour, 'JPEG2000', {}), (colour, 'PPM', {})]
    return [_encoded(*kind) for kind in kinds]


def _encoded(image, form, options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def manifests():
    rows = [{'path': 'a.png', 'width': 3, 'score': 0.5}, {'target': 'b/größe.png', 'tags': ['x', {'y': None}]},
            {'image_path': '.'}]
    text = '\n'.join(json.dumps(row, ensure_ascii=number == 1) for number, row in enumerate(rows))
    return [text.encode(), text.replace('\n', '\r\n').encode('utf-8-sig')]


def logs():
    rows = [{'phase': phase, 'iteration': number, 'PSNR': 20.5, 'kl': None}
            for number, phase in enumerate(['train', 'val', 'train'])]
    return [''.join(json.dumps(row) + '\n' for row in rows).encode()]


def latent_indexes(folder):
    """index.json of a folder of cached latents: bytes each."""
    LatentIndex(
        settings=dict(what='mean', dtype='float16', flips=False, normalized=True, images=3), protocol={'crop': 16},
        complete=True, statistics={'mean': [0.1, 0.2], 'std': [1.0, 2.0]}, latent_shape=[2, 4, 4],
        skipped=[dict(path='c.png', reason='zero bytes')],
        shards=[dict(file='shard_00000.safetensors', names=['a.png', 'b/größe.png'])]).write(folder)
    return [(folder / 'index.json').read_bytes()]


def checkpoint(path):
    """A valid training checkpoint with our checksum, and without one in both of torch's formats: bytes each."""
    torch.manual_seed(0)
    state = AUTOENCODERS.build(AUTOENCODER).state_dict()
    save_training_checkpoint({'meta': {'iteration': 1}, 'ema_state_dict': state, 'optimizers': {}, 'state_dict': {
        f'autoencoder.{name}': value for name, value in state.items()}}, path, AUTOENCODER)
    content, files = torch.load(path, weights_only=True), [path.read_bytes()]
    for as_zip in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=as_zip)
        files.append(path.read_bytes())
    return files


def mutated(data, others, rng):
    """1 to 4 damages to bytes; an archive is often opened, so that its checksums fit again."""
    if data[:2] == b'PK' and rng.random() < 0.7:
        # Ours have one sum of the whole file and none of their records: there any change shows at once.
        with contextlib.suppress(zipfile.BadZipFile):
            return _mutated_archive(data, others, rng)
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        data = _damaged(data, others, rng)
    return bytes(data)


def _damaged(data, others, rng):
    place = int(rng.integers(0, len(data) + 1))
    # Headers decide more than pixels do.
    place = min(place, int(rng.integers(0, 200))) if rng.random() < 0.5 else place
    end = place + int(rng.integers(1, 64))
    kind = rng.integers(0, 8)
    if kind == 0:  # flip
        for spot in rng.integers(0, max(1, len(data)), 4):
            data[spot:spot + 1] = bytes([data[spot] ^ 1 << int(rng.integers(0, 8))]) if data else b''
        return data
    if kind == 1:  # cut off
        return data[:place]
    if kind == 2:  # continue as another file
        other = others[rng.integers(0, len(others))]
        return data[:place] + other[int(rng.integers(0, len(other))):]
    if kind == 3:  # a field of a length, an offset or a size
        form = ('>H', '<H', '>I', '<I')[rng.integers(0, 4)]
        number = NUMBERS[rng.integers(0, len(NUMBERS))] & (0xffff if 'H' in form else 0xffffffff)
        field = struct.pack(form, number)
        return data[:place] + field + data[place + len(field):]
    if kind == 4:  # twice
        return data[:end] + data[place:]
    if kind == 5:  # left out
        return data[:place] + data[end:]
    if kind == 6:  # noise
        return data[:place] + rng.bytes(end - place) + data[end:]
    return data[:place] + WORDS[rng.integers(0, len(WORDS))] + data[place:]


def _mutated_archive(data, others, rng):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(buffer, 'w') as result:
        names = archive.namelist()
        # The pickle is where the decisions are.
        chosen = next(name for name in names if name.endswith('data.pkl')) if rng.random() < 0.7 else (
            names[rng.integers(0, len(names))])
        for name in names:
            part = archive.read(name)
            result.writestr(name, bytes(_damaged(bytearray(part), others, rng)) if name == chosen else part)
    return buffer.getvalue()
