"""The benchmark of ``make gpu``: works in the order of importance, results written after each."""

import argparse
import gc
import json
import time
import traceback
from dataclasses import asdict
from pathlib import Path

import torch

from wfvae_toolkit.analysis.benchmark import Bench, run_benchmark
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.files import atomic_write

CONFIG = Path(__file__).resolve().parents[2] / 'configs/wfvae2_1024.py'
MODELS = ('ours', 'plain', 'AutoencoderKL')
WORKS = ('forward', 'autoencoder_turn', 'discriminator_turn', 'validation')
SIZES = {1024: 4, 512: 8, 256: 16}  # px -> images
PROFILED = ('forward', 'autoencoder_turn')


def plan(part):
    """[(px, images, 'eager' or 'compiled', work, models)] of a part, the most important first."""
    if part == 'benchmark':
        return [(1024, 4, 'eager', work, MODELS) for work in WORKS]
    compiled = [(size, batch, 'compiled', work, ('ours', 'AutoencoderKL') if work == 'forward' else ('ours',))
                for size, batch in SIZES.items() for work in WORKS[:3]]
    eager = [(size, batch, 'eager', work, MODELS) for size, batch in list(SIZES.items())[1:] for work in WORKS]
    return [*compiled[:3], *eager, *compiled[3:]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('part', choices=('benchmark', 'more'))
    parser.add_argument('--device', required=True)
    parser.add_argument('--deadline', type=float, required=True)
    parser.add_argument('--out', required=True)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True  # as in training
    measured = Measured(options.out, device)
    for size, batch, mode, work, models in plan(options.part):
        if device.type == 'cpu':
            size, batch = size // 16, 1
        if time.time() > options.deadline:
            measured.leave_out(f'{size} px {mode} {work}')
        else:
            measured.measure(size, batch, mode, work, models)
    if options.part == 'benchmark':
        for work in PROFILED:
            if time.time() < options.deadline:
                measured.profile(work)
            else:
                measured.leave_out(f'profile of {work}')
    return bool(measured.content['failed'])


class Measured:
    """Rows, failures and what is left out, in a JSON file that is complete after every step."""

    def __init__(self, path, device):
        self.path, self.device = Path(path), device
        cfg = load_config(CONFIG).model.to_dict()
        if device.type == 'cpu':
            cfg['autoencoder'].update(widths=(32, 32, 32), flow_width=16)
            cfg['discriminator'].update(num_layers=2, width=8)
        self.cfg = cfg
        self.content = {'torch': torch.__version__, 'device': _name(device), 'precision': 'bf16',
                        'perceptual': 'STLPIPS where its package is, else LPIPS with random weights',
                        'rows': [], 'goals': [], 'profiles': {}, 'failed': [], 'left_out': []}

    def measure(self, size, batch, mode, work, models):
        """One work of several models; a model that does not fit into the memory fails alone."""
        try:
            self._run(size, batch, mode, work, models)
        except torch.OutOfMemoryError:
            # Together they hold more than each alone.
            for model in models:
                _free()
                self._try(size, batch, mode, work, model)
        except Exception as error:  # the other works go on
            self._fail(f'{size} px {mode} {work}', error)
        self.content['goals'] = goals(self.content['rows'])
        self._write()
        _free()

    def _try(self, size, batch, mode, work, model):
        try:
            self._run(size, batch, mode, work, [model])
        except torch.OutOfMemoryError as error:
            self._fail(f'{size} px {mode} {work} {model}', error)

    def _run(self, size, batch, mode, work, models):
        start = time.time()
        bench = Bench(self.cfg, size, batch, 'bf16', self.device, mode == 'compiled')
        # On a CPU the peak is that of a process of its own, which takes seconds to start.
        rows = run_benchmark(bench, [work], list(models), rounds=4 if self.device.type == 'cuda' else 1,
                             memory=self.device.type == 'cuda', limit=['ours'])
        self.content['rows'] += [{'size': size, 'batch': batch, 'mode': mode, **asdict(row)} for row in rows]
        print(f'{size} px {mode} {work}: ' + ', '.join(f'{row.model} {1e3 * row.seconds:.1f} ms' for row in rows)
              + f' ({time.time() - start:.0f} s)', flush=True)

    def profile(self, work):
        """The kernels of one call that take most time, as text."""
        size, batch = (1024, 4) if self.device.type == 'cuda' else (64, 1)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.device.type == 'cuda':
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        try:
            function = Bench(self.cfg, size, batch, 'bf16', self.device).work(work, 'ours')
            function()
            with torch.profiler.profile(activities=activities) as profile:
                function()
                if self.device.type == 'cuda':
                    torch.cuda.synchronize()
            by = 'self_device_time_total' if self.device.type == 'cuda' else 'self_cpu_time_total'
            table = profile.key_averages().table(sort_by=by, row_limit=30, max_name_column_width=90)
            self.content['profiles'][work] = table.split('\n')
        except Exception as error:
            self._fail(f'profile of {work}', error)
        self._write()
        _free()

    def leave_out(self, name):
        self.content['left_out'].append(name)
        self._write()

    def _fail(self, name, error):
        traceback.print_exception(error)
        reason = (str(error).splitlines() or [''])[0][:300]
        self.content['failed'].append(f'{name}: {type(error).__name__}: {reason}')

    def _write(self):
        with atomic_write(self.path, 'w') as file:
            file.write(json.dumps(self.content, indent=2) + '\n')


def goals(rows):
    """What the rows at 1024 px say of the goals."""
    at = {(row['work'], row['model'], row['mode']): row for row in rows if row['size'] == 1024}
    lines = []

    def goal(name, value, least, form='.2f'):
        lines.append(f'{name}: {value:{form}}, {"reached" if value >= least else "MISSED"} ({least} wanted)')

    for (work, model, mode), row in at.items():
        if model == 'ours' and work != 'validation':
            if row['limit_ratio'] is not None:
                goal(f'limit / time, {work} {mode}', row['limit_ratio'], 0.7 if work == 'forward' else 0.6)
            for other, least in (('plain', 2), ('AutoencoderKL', 4)):
                theirs = at.get((work, other, 'eager'))
                if theirs:
                    goal(f'times as fast as {other}, {work} {mode}', theirs['seconds'] / row['seconds'], least)
            theirs = at.get((work, 'AutoencoderKL', 'eager'))
            if theirs and row['peak_bytes'] and theirs['peak_bytes']:
                goal(f'memory of AutoencoderKL over ours, {work} {mode}', theirs['peak_bytes'] / row['peak_bytes'], 2)
            if row['peak_bytes']:
                goal(f'80 GB over the peak, {work} {mode}', 80e9 / row['peak_bytes'], 1)
    return lines


def _free():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _name(device):
    return torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'


if __name__ == '__main__':
    raise SystemExit(main())
