"""How training speeds up with the number of processes."""

import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.options import as_arguments
from wfvae_toolkit.visualization.records import read_records

from .ablation import NO_VALIDATION

WARM_UP, ROWS = 1, 2  # rows of the log that are left out, and that count
# Their cost is not an iteration's.
_LEFT_OUT = {**NO_VALIDATION, **dict.fromkeys(
    f'default_hooks.{name}' for name in ('checkpoint', 'pictures', 'curves', 'flat_fields'))}


@dataclass(frozen=True)
class Scaling:
    """Images a second of one process and of several, each with as many cores or GPUs: one number a round.

    Every process has batches of the config's size, so twice as many images pass in an iteration of two.
    """

    processes: int
    single: tuple[float, ...]
    several: tuple[float, ...]

    @property
    def of_linear(self):
        """Median over the rounds of several's speed over single's, a process; 1 is linear."""
        return statistics.median(
            several / single for single, several in zip(self.single, self.several, strict=True)) / self.processes


def measure_scaling(config, tools, options=None, processes=2, rounds=3, iterations=20, report=print):
    """Train in turns with one process on a part of the machine and with ``processes`` on all of it.

    Args:
        config (Path | str): of a training.
        tools (Path): the checkout's tools/.
        options (dict): changes to the config.
        processes (int): at least 2.
        rounds (int): trainings of each.
        iterations (int): of a row in the log; a training has three, of which the first does not count.
        report (callable): gets a line a training.

    Raises:
        SettingError: no Linux, fewer cores than processes, or a training that failed, with its last lines.
    """
    if not hasattr(os, 'sched_getaffinity'):
        raise SettingError('this system cannot bind a process to cores; measure on Linux')
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // max(processes, 1)
    if processes < 2 or rounds < 1 or iterations < 1 or not share:
        raise SettingError(f'{processes} processes (2 or more), {rounds} rounds, {iterations} iterations (1 or more) '
                           f'on {len(cores)} cores: every process needs a core')
    speeds = {1: [], processes: []}
    for _ in range(rounds):
        for count, measured in speeds.items():
            measured.append(_images_per_second(config, Path(tools), options or {}, count, cores[:count * share],
                                               iterations))
            report(f'{count} of {processes} processes: {measured[-1]:.2f} images/s')
    return Scaling(processes, tuple(speeds[1]), tuple(speeds[processes]))


def format_scaling(scaling):
    """Scaling -> one line."""
    single, several = (statistics.median(speeds) for speeds in (scaling.single, scaling.several))
    return (f'1 process {single:.2f} images/s, {scaling.processes} processes {several:.2f}: '
            f'{scaling.of_linear:.3f} of linear')


def _images_per_second(config, tools, options, count, cores, iterations):
    settings = {**options, **_LEFT_OUT, 'default_hooks.logger.interval': iterations,
                'train_cfg.max_iters': iterations * (WARM_UP + ROWS)}
    # launch.sh gives every process its part of the cores that it finds.
    unset = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [tools / 'dist_train.sh', str(config), str(count), '--work-dir', folder, *as_arguments(settings)],
            env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            lines = done.stdout.splitlines()
            said = [line for line in lines if line.startswith('error: ')] or lines[-20:]
            raise SettingError(f'training with {count} processes: ended with status {done.returncode}:\n'
                               + '\n'.join(f'    {line}' for line in said))
        rows = [row['images_per_second'] for row in read_records(folder) if 'images_per_second' in row]
    return statistics.median(rows[WARM_UP:])
