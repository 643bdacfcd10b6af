"""What a run prints and records while it trains."""

import math
import time
from datetime import timedelta

import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device, peak_memory_bytes
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.records import RecordWriter, read_records

# Shown in the console, in this order, when there; everything goes to the files.
_CONSOLE = ('loss', 'per_pixel/pixel', 'per_pixel/perceptual', 'per_pixel/wavelet', 'kl', 'adversarial',
            'adaptive_weight', 'discriminator', 'active_channels')


@HOOKS.register_module()
class LoggerHook(Hook):
    """Means over the last ``interval`` iterations and all ranks: console, log.jsonl, train.csv, TensorBoard and so on.

    Values stay on the device until a row is due, so logging does not synchronise every iteration.
    A row also holds learning rates, seconds an iteration, images a second, the share of time spent waiting
    for data, and peak memory. Other hooks get it through ``after_log(runner, phase, row)``.

    A hook adds a number to the row by ``runner.message_hub.update_scalar('train/NAME', value)``, to that of a
    validation by ``'val/NAME'``; rank 0's are written. Hooks of a lower priority are heard an iteration later.

    Args:
        interval (int): iterations a row.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval=50):
        if interval < 1:
            raise SettingError(f'LoggerHook: interval={interval}; 1 or more is needed')
        self.interval = interval
        self._sums, self._counts = {}, {}
        self._from_hub = {}  # name -> [sum, count] over the window
        self._heard = {}  # name -> the buffer in the hub, cut to its newest value

    def before_run(self, runner):
        self.records = RecordWriter(runner.work_dir) if distributed.is_main() else None

    def before_train(self, runner):
        validated_at = 0
        if self.records is not None:
            self.records.cut(runner.iter)
            validated_at = max([row['iteration'] for row in read_records(runner.work_dir) if row['phase'] == 'val'],
                               default=0)
        runner.train_loop.validated_at = distributed.of_main(validated_at)
        self._start_clock(runner.iter)

    def after_run(self, runner):
        if self.records is not None:
            runner.visualizer.close()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for name, value in outputs.log.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double()
            self._counts[name] = self._counts.get(name, 0) + 1
        for name, total, count in self._hear(runner.message_hub, lambda name: not name.startswith('val/')):
            window = self._from_hub.setdefault(name.removeprefix('train/'), [0.0, 0])
            window[0] += total
            window[1] += count
        iteration = batch_idx + 1
        if iteration % self.interval == 0 or iteration == runner.max_iters:
            self._report(runner, iteration)

    def _hear(self, hub, wanted):
        """(name, sum, count) of what was added to MMEngine's message hub since the last call.

        The hub keeps the newest value alone: its buffers grow by a copy each time, 17 ms an iteration after 1e6.
        """
        for name, buffer in list(hub.log_scalars.items()):
            if wanted(name):
                known = self._heard.get(name) is buffer
                values, counts = (column[known:] for column in buffer.data)
                if len(values):
                    self._heard[name] = hub.log_scalars[name] = HistoryBuffer(values[-1:], counts[-1:])
                    yield name, float(values.sum()), int(counts.sum())

    def after_val_epoch(self, runner, metrics=None):
        heard = self._hear(runner.message_hub, lambda name: name.startswith('val/'))
        added = {name.removeprefix('val/'): total / count for name, total, count in heard}
        metrics = {**added, **(metrics or {})}
        if runner.in_training:
            self._publish(runner, 'val', {'iteration': runner.iter, **metrics})
        runner.logger.info(f'val  iter {runner.iter}  ' + '  '.join(f'{name} {value:.4f}'
                                                                    for name, value in metrics.items()))
        self._start_clock(runner.iter)  # validation is no training time

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['log_window'] = {name: (total, self._counts[name]) for name, total in self._mean_sums().items()}
        checkpoint['hub_window'] = {name: list(window) for name, window in self._from_hub.items()}
        # Ranks go on from their mean, as a resumed run does: then both print the same digits.
        self.after_load_checkpoint(runner, checkpoint)

    def after_load_checkpoint(self, runner, checkpoint):
        window = checkpoint.get('log_window', {})
        self._counts = {name: count for name, (_, count) in window.items()}
        self._sums = {name: total.to(default_device()) for name, (total, _) in window.items()}
        self._from_hub = {name: list(pair) for name, pair in checkpoint.get('hub_window', {}).items()}

    def _mean_sums(self):
        """Name -> float64 sum over the window, the mean of all ranks, on the CPU; one transfer, one all-reduce."""
        names = sorted(self._sums)
        if not names:
            return {}
        flat = torch.cat([self._sums[name].reshape(-1) for name in names])
        distributed.average_over_ranks([flat])
        parts = flat.cpu().split([self._sums[name].numel() for name in names])
        return {name: part.reshape(self._sums[name].shape).clone() for name, part in zip(names, parts, strict=True)}

    def _report(self, runner, iteration):
        row = {'iteration': iteration}
        for name, total in self._mean_sums().items():
            mean = (total / self._counts[name]).tolist()
            row.update({f'{name}/{i:02d}': value for i, value in enumerate(mean)} if total.ndim else {name: mean})
        row['skipped_updates'] = runner.train_loop.skipped
        # RuntimeInfoHook puts our own terms there too.
        row.update({name: total / count for name, (total, count) in self._from_hub.items() if name not in row})
        self._sums, self._counts, self._from_hub = {}, {}, {}
        for turn, wrapper in runner.optim_wrapper.items():
            row[f'learning_rate/{turn}'] = wrapper.param_groups[0]['lr']
        elapsed = time.perf_counter() - self._clock
        done = iteration - self._clock_iteration
        row['seconds_per_iteration'] = elapsed / done
        row['images_per_second'] = runner.train_loop.images_per_iteration * done / elapsed
        row['data_wait_share'] = runner.train_loop.data_seconds / elapsed
        row['peak_memory_gib'] = peak_memory_bytes() / 2**30
        runner.train_loop.data_seconds = 0.0
        self._publish(runner, 'train', row)
        runner.logger.info(_console_line(row, runner.max_iters))
        self._start_clock(iteration)

    def _publish(self, runner, phase, row):
        if self.records is not None:
            self.records.write(phase, row)
            scalars = {f'{phase}/{name}': value for name, value in row.items() if name != 'iteration'}
            runner.visualizer.add_scalars(scalars, step=row['iteration'])
        runner.call_hook('after_log', phase=phase, row=row)

    def _start_clock(self, iteration):
        self._clock, self._clock_iteration = time.perf_counter(), iteration


def _console_line(row, max_iters):
    remaining_s = row['seconds_per_iteration'] * (max_iters - row['iteration'])
    terms = [f'{name.removeprefix("per_pixel/")} {_short(row[name])}' for name in _CONSOLE if name in row]
    return '  '.join([
        f'iter {row["iteration"]}/{max_iters}', *terms, f'lr {row["learning_rate/autoencoder"]:.2e}',
        f'{row["images_per_second"]:.1f} img/s', f'{row["seconds_per_iteration"]:.3f} s/iter',
        f'data {row["data_wait_share"]:.0%}', f'mem {row["peak_memory_gib"]:.2f} GiB',
        f'ETA {timedelta(seconds=round(remaining_s))}'])


def _short(value):
    return f'{value:.4g}' if math.isfinite(value) else str(value)
