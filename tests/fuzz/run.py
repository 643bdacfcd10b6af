"""Fuzz the readers of user files: ``python -m tests.fuzz.run --minutes 5 --seed 0``.

Each input goes to a child process: one that crashes or hangs is counted, kept and passed over. A good outcome is a good
read or the error class that the reader states; a sample is lost if training gets no picture, or evaluation neither a
picture nor a report. Exit status 1 if there is any crash, hang or lost sample.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

HANG_S = 30
MEMORY_BYTES = 16 * 2**30
COUNTS = ('tried', 'read', 'refused', 'crashes', 'hangs', 'lost')
NAMES = {'pictures': 'zz.png', 'manifests': 'list.jsonl', 'checkpoints': 'iter_1.pth', 'logs': 'log.jsonl',
         'scan caches': 'scan.jsonl', 'latent indexes': 'index.json'}


class Lost(Exception):
    """A sample that neither came nor was reported."""


def make_targets(folder):
    """Name -> (valid files, function of the damaged file's path that gives whether it was read)."""
    from tests.fuzz import inputs
    from wfvae_toolkit.checkpoints import CheckpointError, read_model
    from wfvae_toolkit.datasets import ImageFolder, ImageManifest, SampleKey, scan_folder
    from wfvae_toolkit.latents import LatentCacheError, LatentIndex
    from wfvae_toolkit.utils.errors import SettingError
    from wfvae_toolkit.visualization.records import read_records

    data = folder / 'pictures'
    data.mkdir(exist_ok=True)
    files = inputs.pictures()
    for name in ('good.png', NAMES['pictures']):
        (data / name).write_bytes(files[4])
    crop = [dict(type='ResizeShortSide', size=8), dict(type='CenterCrop', size=8)]
    training = [ImageFolder(data, crop, max_pixels=10**6, decoder=decoder) for decoder in ('exact', 'fast')]
    evaluation = ImageFolder(data, crop, max_pixels=10**6, on_bad='report')

    def picture(path):
        shown = [dataset[SampleKey(1, 0, 0)] for dataset in training]
        scored = evaluation[1]
        good = [not sample.bad for sample in shown]
        if any(sample.image is None or (sample.path == path.name) != fine
               for sample, fine in zip(shown, good, strict=True)):
            raise Lost('training has no picture, or another one without a report')
        # OpenCV reads over damage inside of a JPEG that Pillow refuses; never the other way round.
        if (scored.image is None) != bool(scored.bad) or good[0] == bool(scored.bad) or good[0] > good[1]:
            raise Lost('evaluation and training disagree about the file')
        return good[0]

    def reads(read, *errors):
        def attempt(path):
            try:
                read(path)
            except errors:
                return False
            return True
        return attempt

    def manifest(path):
        dataset = ImageManifest(path, on_bad='report')
        for index in range(len(dataset)):
            dataset.fields(index)
            sample = dataset[index]
            if (sample.image is None) != bool(sample.bad):
                raise Lost('no picture and no report')

    def cache(path):
        if scan_folder(data, cache=path) != ['good.png', NAMES['pictures']]:
            raise Lost('a damaged cache changed the list of pictures')

    scan_folder(data, cache=folder / 'scan')
    return {
        'pictures': (files, picture),
        'manifests': (inputs.manifests(), reads(manifest, SettingError)),
        'checkpoints': (inputs.checkpoint(folder / 'valid.pth'), reads(lambda path: read_model(path).build(),
                                                                       CheckpointError)),
        'logs': (inputs.logs(), reads(lambda path: read_records(path.parent), SettingError)),
        'scan caches': ([(folder / 'scan').read_bytes()], reads(cache)),
        'latent indexes': (inputs.latent_indexes(folder), reads(lambda path: LatentIndex.read(path.parent),
                                                                LatentCacheError)),
    }


def work(folder, make, seed, start, number, counts):
    """Child process: inputs from ``start`` on; ``number`` and ``counts`` are shared with the parent."""
    import numpy as np

    from tests.fuzz.inputs import mutated
    from wfvae_toolkit.datasets import scan

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter('ignore')
    scan.SETTLED_NS = -10**12  # cache what changed just now
    targets = make(folder)
    for current in range(start, sys.maxsize):
        rng = np.random.default_rng((seed, current))
        # Pictures come in most kinds.
        row = rng.choice(len(targets), p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
        name = list(targets)[row]
        files, read = targets[name]
        damaged = mutated(files[rng.integers(0, len(files))], files, rng)
        path = (folder / 'pictures' if name == 'pictures' else folder) / NAMES[name]
        path.write_bytes(damaged)
        number[:] = [current, row]
        cell = row * len(COUNTS)
        counts[cell] += 1
        try:
            counts[cell + (1 if read(path) else 2)] += 1
        except Exception as error:  # noqa: BLE001 - that none of any kind comes is what is tested
            counts[cell + (5 if isinstance(error, Lost) else 3)] += 1
            (folder / 'found').mkdir(exist_ok=True)
            (folder / 'found' / f'{current}_{NAMES[name]}').write_bytes(damaged)
            (folder / 'found' / f'{current}.txt').write_text(traceback.format_exc())


def fuzz(folder, seconds, seed, make=make_targets, hang_s=HANG_S):
    """Try inputs for some seconds -> {target: {count: number}}; what went wrong is kept in ``folder/found``."""
    context = multiprocessing.get_context('spawn')
    # Without locks: a child that is killed while it holds one would stop the parent for ever. The parent writes only
    # when no child runs.
    counts, number = context.RawArray('q', len(NAMES) * len(COUNTS)), context.RawArray('q', [-1, 0])
    end, child = None, None
    while end is None or time.monotonic() < end:
        if child is None:
            child = context.Process(target=work, args=(folder, make, seed, number[0] + 1, number, counts),
                                    daemon=True)
            child.start()
            seen, since = number[0], time.monotonic() + 60  # it imports torch
        time.sleep(0.1)
        if number[0] != seen:
            end = end or time.monotonic() + seconds  # the clock starts with the first input
            seen, since = number[0], time.monotonic()
        hangs = time.monotonic() - since > hang_s
        if hangs or not child.is_alive():
            child.kill()
            child.join()
            _keep(folder, number)
            counts[number[1] * len(COUNTS) + (4 if hangs else 3)] += 1
            if number[0] < 0:
                raise RuntimeError(f'the child process ended with status {child.exitcode} before its first input')
            child = None
    if child is not None:
        child.kill()
        child.join()
    rows = [counts[start:start + len(COUNTS)] for start in range(0, len(counts), len(COUNTS))]
    return {name: dict(zip(COUNTS, row, strict=True)) for name, row in zip(NAMES, rows, strict=True)}


def _keep(folder, number):
    name = list(NAMES)[number[1]]
    (folder / 'found').mkdir(exist_ok=True)
    shutil.copy((folder / 'pictures' if name == 'pictures' else folder) / NAMES[name],
                folder / 'found' / f'{number[0]}_{NAMES[name]}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=5)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix='fuzz_'))
    found = fuzz(folder, 60 * options.minutes, options.seed)
    print('| ' + ' | '.join(['files', *COUNTS]) + ' |\n|' + ' --- |' * (1 + len(COUNTS)))
    for name, row in found.items():
        print('| ' + ' | '.join([name, *(f'{row[count]:,}' for count in COUNTS)]) + ' |')
    print(json.dumps({'seed': options.seed, 'minutes': options.minutes}))
    if any(row[count] for row in found.values() for count in ('crashes', 'hangs', 'lost')):
        sys.exit(f'what went wrong is in {folder / "found"}')
    shutil.rmtree(folder)


if __name__ == '__main__':
    main()
