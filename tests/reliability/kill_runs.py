"""Kill a small training with SIGKILL, resume it to its end and compare it with one that was left alone.

``python tests/reliability/kill_runs.py FOLDER [--kills 100] [--ranks 1 2] [--seed 0]``

A third of the kills hit while a checkpoint is being written, the others at a random time; of two ranks, either or both
are killed. Every process is forked from this one after its imports, so that a run costs little more than its
iterations. ``FOLDER/kills.json`` holds a row a kill; a table is printed; the exit status is 1 if any run differs.
"""

import argparse
import json
import os
import random
import runpy
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

# What a run imports late, imported once for all of them.
import matplotlib.pyplot  # noqa: F401
import numpy as np
import torch
import torch._dynamo  # noqa: F401
from PIL import Image

import wfvae_toolkit.hooks  # noqa: F401
import wfvae_toolkit.training  # noqa: F401
from wfvae_toolkit.checkpoints import list_checkpoints, load_training_checkpoint
from wfvae_toolkit.utils.files import write_json

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tests/data/plugins'))
from run_files import assert_equal_state, assert_same_run, read_state  # noqa: E402

TRAIN = runpy.run_path(str(ROOT / 'tools/train.py'))['main']
LENGTH, INTERVAL = 20, 2
HANG_S = 120  # a run of a few seconds that takes this long hangs


class Run:
    """A training on ``ranks`` processes; options of the config beside those that all runs share."""

    def __init__(self, folder, photos, ranks, workers=0, resume=False):
        self.folder = folder
        options = {
            'train_cfg.max_iters': LENGTH, 'train_cfg.val_interval': 10, 'train_cfg.accumulation': 2,
            'default_hooks.checkpoint.interval': INTERVAL, 'default_hooks.logger.interval': 3,
            'default_hooks.discriminator.start_iter': 8, 'default_hooks.header': None, 'default_hooks.curves': None,
            'default_hooks.pictures': None, 'default_hooks.flat_fields': None, 'val_evaluator.metrics.SSIM': None,
            'val_dataloader.max_images': 3,
            'train_dataloader.dataset.data_root': photos, 'val_dataloader.dataset.data_root': photos,
            'train_dataloader.batch_size': 4 // ranks, 'train_dataloader.num_workers': workers}
        self.arguments = [str(ROOT / 'tests/data/configs/tiny.py'), '--work-dir', str(folder), *['--resume'] * resume,
                          *['--launcher', 'pytorch'] * (ranks > 1),
                          '--cfg-options', *(f'{key}={value}' for key, value in options.items())]
        self.environment = {}
        if ranks > 1:
            with socket.socket() as probe:
                probe.bind(('127.0.0.1', 0))
                port = probe.getsockname()[1]
            self.environment = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': str(ranks)}
        self.start_s = time.monotonic()
        self.processes = {rank: self._fork(rank) for rank in range(ranks)}
        self.statuses = {}

    def _fork(self, rank):
        process = os.fork()
        if process:
            return process
        status = 1
        try:
            os.environ.update(self.environment, RANK=str(rank), LOCAL_RANK=str(rank))
            with open(self.folder.with_suffix(f'.rank_{rank}.txt'), 'ab', buffering=0) as output:
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
            TRAIN(self.arguments)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def alive(self):
        """Ranks that have not ended."""
        for rank, process in self.processes.items():
            if rank not in self.statuses:
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    self.statuses[rank] = os.waitstatus_to_exitcode(status)
        return [rank for rank in self.processes if rank not in self.statuses]

    def kill(self, ranks):
        for rank in ranks:
            os.kill(self.processes[rank], signal.SIGKILL)

    def wait(self):
        """Exit codes by rank; one that hangs is killed."""
        limit = time.monotonic() + HANG_S
        while alive := self.alive():
            if time.monotonic() > limit:
                self.kill(alive)
            time.sleep(0.01)
        return self.statuses

    @property
    def seconds(self):
        return time.monotonic() - self.start_s

    def writing(self, iteration):
        """Whether the checkpoint of an iteration is being written."""
        try:
            return any(name.startswith(f'.iter_{iteration}.pth.') for name in os.listdir(self.folder))
        except FileNotFoundError:
            return False


def kill_once(folder, photos, ranks, kind, length_s, rng):
    """A run that is killed, then resumed to its end -> a row of the table; None if it ended before the kill."""
    victims = [list(range(ranks)), [0]] if kind == 'while writing' else [list(range(ranks)), [0], [ranks - 1]]
    victims, workers = rng.choice(victims), rng.choice([0, 2])
    at_iteration, at_s = rng.randrange(INTERVAL, LENGTH + 1, INTERVAL), rng.uniform(0, length_s)
    run = Run(folder, photos, ranks, workers)
    while len(run.alive()) == ranks:
        if run.writing(at_iteration) if kind == 'while writing' else run.seconds > at_s:
            break
        time.sleep(0.0005)
    if len(run.alive()) < ranks:
        run.wait()
        return None
    run.kill(victims)
    killed_s = time.monotonic()
    statuses = run.wait()
    peers_ended_s = round(time.monotonic() - killed_s, 2)
    unfinished = sorted(path.name for path in folder.glob('.*.part'))
    torn = [path.name for path in list_checkpoints(folder) if not _reads(path)]
    checkpoints = list_checkpoints(folder)
    resumed = Run(folder, photos, ranks, rng.choice([0, 2]), resume=True).wait()
    return {'ranks': ranks, 'kind': kind, 'killed': victims, 'workers': workers,
            'hit_a_write': any('.pth.' in name for name in unfinished), 'torn_checkpoints': torn,
            'resumed_from': checkpoints[-1].name if checkpoints else 'the start',
            'peers_hung': any(status == -signal.SIGKILL and rank not in victims for rank, status in statuses.items()),
            'peers_ended_s': peers_ended_s, 'exit_codes': list(resumed.values()),
            'left_over': sorted(path.name for path in folder.glob('.*.part'))}


def _reads(path):
    load_training_checkpoint(path)
    return True


def same(folder, whole):
    """Whether checkpoints, the best included, and logs are equal to the last bit."""
    try:
        assert_same_run(folder, whole, LENGTH)
        assert_equal_state(*(read_state(run / 'best_PSNR.pth') for run in (folder, whole)))
    except AssertionError as difference:
        print(f'{folder}: {difference}')
        return False
    return True


def make_photos(folder):
    """Nine smooth pictures of 32 px."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(9):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BILINEAR).save(folder / f'{number}.png')


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--kills', type=int, default=100, help='for each number of ranks')
    parser.add_argument('--ranks', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def main():
    options = parse_arguments()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    photos = options.folder / 'photos'
    make_photos(photos)
    rows = []
    for ranks in options.ranks:
        whole = options.folder / f'whole_{ranks}'
        run = Run(whole, photos, ranks)
        if any(run.wait().values()):
            sys.exit(f'the undisturbed run failed: {whole}.rank_0.txt')
        length_s, done = run.seconds, 0
        while done < options.kills:
            kind = 'while writing' if done % 3 == 0 else 'at a random time'
            folder = options.folder / f'killed_{ranks}_{done}'
            row = kill_once(folder, photos, ranks, kind, length_s, rng)
            # A write that was over before the signal came does not count as one.
            if row is not None and (kind != 'while writing' or row['hit_a_write']):
                row['identical'] = not any(row['exit_codes']) and same(folder, whole)
                rows.append(row)
                done += 1
                print(done, json.dumps(row), flush=True)
            if row is None or row.get('identical', True):
                shutil.rmtree(folder)
                for output in options.folder.glob(f'{folder.name}.*.txt'):
                    output.unlink()
        write_json(options.folder / 'kills.json', rows)
    print('| ranks | SIGKILL | kills | hit a checkpoint being written | torn checkpoints | hangs | identical |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for ranks in options.ranks:
        for kind in ('while writing', 'at a random time'):
            group = [row for row in rows if (row['ranks'], row['kind']) == (ranks, kind)]
            counts = [sum(bool(row[name]) for row in group)
                      for name in ('hit_a_write', 'torn_checkpoints', 'peers_hung', 'identical')]
            print(f'| {ranks} | {kind} | {len(group)} | ' + ' | '.join(map(str, counts)) + ' |')
    sys.exit(not all(row['identical'] for row in rows))


if __name__ == '__main__':
    main()
