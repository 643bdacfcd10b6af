"""The runs of a study as child processes: tools/train.py, then tools/test.py."""

import collections
import concurrent.futures
import json
import os
import queue
import subprocess
import sys
from pathlib import Path

import torch

from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import UserError
from wfvae_toolkit.utils.files import write_json
from wfvae_toolkit.utils.options import as_arguments
from wfvae_toolkit.visualization.records import read_records

from .ablation import NO_VALIDATION, budget_options, config_names

TAIL = 15  # lines of a failed run's log that are shown
_PILOT_ITERS, _PILOT_INTERVAL = 40, 10


class RunFailed(UserError, RuntimeError):
    """A child process that ended with an error; the message has the last lines of its log."""


def run_all(runs, tools, jobs, report=print):
    """Train and score what is not finished; -> list of RunFailed, empty if all went well.

    Whatever ends this process early ends its children first; a second call goes on from their checkpoints.

    Args:
        runs (list[Run]): in the order in which they start.
        tools (Path): the folder of train.py and test.py.
        jobs (int): how many at a time, spread over the GPUs there are.
        report (callable): gets a line a run.
    """
    for run in runs:
        run.claim()
    waiting = [run for run in runs if not run.finished()]
    report(f'{len(runs)} runs, {len(runs) - len(waiting)} of them finished before; {jobs} at a time')
    failures = []
    with _Children(tools, jobs) as children:
        futures = {children.submit(_train_and_score, run): run for run in waiting}
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            run = futures[future]
            try:
                future.result()
            except RunFailed as error:
                failures.append(error)
                report(f'[{number}/{len(waiting)}] {run.label}: FAILED\n{error}')
            else:
                report(f'[{number}/{len(waiting)}] {run.label}: {training_seconds(run.folder):.0f} s')
    return failures


def iterations_for(minutes, configs, folder, tools, options=None, report=print):
    """Updates that each config makes in ``minutes`` of training, by name; measured once, and kept in the folder.

    A pilot of 40 updates on one device, with the discriminator's share of them, gives the seconds an update; its
    first ten, with everything that starts up, do not count.

    Raises:
        RunFailed: a pilot ended with an error.
    """
    result = {}
    for name, config in config_names(configs).items():
        path = Path(folder) / name / 'pilot.json'
        if not path.is_file():
            pilot = path.parent / 'pilot'
            pilot.mkdir(parents=True, exist_ok=True)
            cfg = load_config(config, options)
            settings = {**budget_options(cfg, _PILOT_ITERS), **NO_VALIDATION,
                        **{f'default_hooks.{name}': None for name in ('curves',) if name in cfg.default_hooks},
                        'default_hooks.logger.interval': _PILOT_INTERVAL}
            settings |= {key: value for key, value in (options or {}).items()
                         if key.partition('.')[0] not in NO_VALIDATION}
            with _Children(tools, jobs=1) as children:
                children.submit(_train_pilot, name, config, pilot, settings).result()
            _, *rows = (row for row in read_records(pilot) if row['phase'] == 'train')
            seconds = sum(row['seconds_per_iteration'] for row in rows) / len(rows)
            write_json(path, {'seconds_per_iteration': seconds})
        seconds = json.loads(path.read_text(encoding='utf-8'))['seconds_per_iteration']
        result[name] = max(1, round(60 * minutes / seconds))
        report(f'{name}: {seconds:.3f} s an update, {result[name]} updates in {minutes:g} min')
    return result


def training_seconds(folder):
    """Time of a run's updates, waiting for data included; validation, checkpoints and starting are not."""
    total, before = 0.0, 0
    for row in read_records(folder):
        if row['phase'] == 'train':
            total += row['seconds_per_iteration'] * (row['iteration'] - before)
            before = row['iteration']
    return total


def visible_devices():
    """Names of the GPUs for CUDA_VISIBLE_DEVICES; empty without."""
    if not torch.cuda.is_available():
        return []
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES')
    return chosen.split(',') if chosen else [str(number) for number in range(torch.cuda.device_count())]


def _train_and_score(call, run):
    call(run.label, run.folder, 'train.py', run.config, '--work-dir', run.folder, '--resume',
         *as_arguments(run.options))
    # A run that was told to stop saves and ends well, but is not done.
    done = max((row['iteration'] for row in read_records(run.folder)), default=0)
    if done < run.max_iters:
        raise RunFailed(f'{run.label}: stopped at update {done} of {run.max_iters}; the same command continues')
    call(run.label, run.folder, 'test.py', run.config, run.folder, '--work-dir', run.folder / 'evaluation',
         '--no-report', *as_arguments(run.scoring))


def _train_pilot(call, name, config, folder, settings):
    call(f'{name}, pilot', folder, 'train.py', config, '--work-dir', folder, *as_arguments(settings))


class _Children:
    """Threads that each wait for one child at a time; ``submit(function, ...)`` calls ``function(call, ...)``.

    ``call(label, folder, tool, *arguments)`` runs a tool, with what it prints appended to ``output.log`` in the folder.
    Left by an error, it ends the children and waits for them.
    """

    def __init__(self, tools, jobs):
        self.tools = Path(tools)
        self.executor = concurrent.futures.ThreadPoolExecutor(jobs)
        self.environments = queue.SimpleQueue()
        devices = visible_devices()
        for number in range(jobs):
            self.environments.put(_environment(devices, number, jobs))
        self.alive = set()
        self.stopping = False

    def submit(self, function, *arguments):
        return self.executor.submit(self._with_environment, function, *arguments)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.stopping = True
            for process in list(self.alive):
                process.terminate()
        self.executor.shutdown(cancel_futures=kind is not None)

    def _with_environment(self, function, *arguments):
        environment = self.environments.get()
        try:
            function(lambda *call: self._run(environment, *call), *arguments)
        finally:
            self.environments.put(environment)

    def _run(self, environment, label, folder, tool, *arguments):
        command = [sys.executable, str(self.tools / tool), *map(str, arguments)]
        log = folder / 'output.log'
        with open(log, 'ab') as file:
            # A session of its own: Ctrl-C reaches the children through us alone, once.
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment,
                                       start_new_session=True)
        self.alive.add(process)
        if self.stopping:
            process.terminate()
        status = process.wait()
        self.alive.discard(process)
        if status:
            raise RunFailed(f'{label}: {tool} ended with status {status}; the end of {log}:\n{_tail(log)}')


def _environment(devices, number, jobs):
    environment = dict(os.environ)
    if devices:
        environment['CUDA_VISIBLE_DEVICES'] = devices[number % len(devices)]
    elif jobs > 1:
        # Else every child takes all cores, and all wait for each other.
        environment.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // jobs)))
    return environment


def _tail(path):
    with open(path, encoding='utf-8', errors='replace') as file:
        return ''.join(f'    {line}' for line in collections.deque(file, maxlen=TAIL))
