"""What a run prints and records while it trains."""

import math
import numbers
import time
from datetime import timedelta

import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import as_float64, default_device, peak_memory_bytes, widest_float
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.visualization.records import RecordWriter, read_records

# The row of pixel losses: of a grey picture, L1 and MSE in [-1, 1] are 1 at most.
_PIXEL = 'per_pixel/pixel'
# The console shows these in this order, if a row has them. The files hold every column.
_CONSOLE = ('loss', _PIXEL, 'per_pixel/perceptual', 'per_pixel/wavelet', 'kl', 'adversarial',
            'adaptive_weight', 'discriminator', 'active_channels')
_RESERVED = ('iteration', 'phase', 'skipped_updates', 'seconds_per_iteration', 'images_per_second', 'data_wait_share',
             'peak_memory_gib')


@HOOKS.register_module()
class LoggerHook(Hook):
    """Writes means over the last ``interval`` iterations and all ranks to the console, the files and the visualizers.

    Values stay on the device until a row is due, so logging does not synchronise every iteration.
    A row also holds learning rates, seconds per iteration, images per second, the share of the time spent waiting for
    data, and peak memory. Other hooks get each row through ``after_log(runner, phase, row)``. A run whose pixel loss
    becomes worse than that of a grey picture is warned of once.

    A hook adds a number of its own by ``runner.log_number(name, value)``, see `log_number`. MMEngine's
    ``runner.message_hub.update_scalar('train/NAME', value)`` works too, for rank 0 only.

    Args:
        interval (int): iterations between two rows.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval=50):
        if interval < 1:
            raise SettingError(f'LoggerHook: interval={interval}; 1 or more is needed')
        self.interval = interval
        self._sums, self._counts = {}, {}
        self._from_hub = {}  # name -> [sum, count] over the window
        self._heard = {}  # name -> the buffer in the hub, cut to its newest value
        self._numbers = {'train': {}, 'val': {}}  # phase -> name -> [sum, count] of this rank over the window
        self._given = {'train': set(), 'val': set()}  # names since the last iteration or validation
        self._own_names = set()  # columns that a hook cannot use
        self._lowest_error, self._has_warned = math.inf, False

    def log_number(self, name, value, phase='train'):
        """Add a number to the next row of the log; hooks call ``runner.log_number``.

        A row of ``train`` gets the mean over all calls since the last row, on all ranks: the sum of the values divided
        by their number. Ranks may call a different number of times. A row of ``val`` gets the mean over all ranks.
        A hook that runs after this one is counted in the next iteration; in a validation it must run before.

        Args:
            name (str): column in train.csv or val.csv, without the phase. It belongs to one hook.
            value (float | Tensor): a number, or a tensor of one value, which stays on its device until the row is due.
            phase (str): 'train' or 'val'.

        Raises:
            SettingError: the value is not a number, the name is not a text, belongs to another column of the row, or
                came twice in one iteration or validation.
        """
        if phase not in self._numbers:
            raise SettingError(f"log_number({name!r}): phase={phase!r}; 'train' or 'val'")
        if not isinstance(name, str) or not name or name != name.strip('/ ') or name.startswith(('train/', 'val/')):
            raise SettingError(f"log_number: the name {name!r}; a text such as 'my_hook/temperature', without the "
                               'phase, is needed')
        tensor = isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex()
        if isinstance(value, bool) or not (tensor or isinstance(value, numbers.Real)):
            found = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, torch.Tensor) else repr(value)
            raise SettingError(f'log_number({name!r}): {found:.80}; a number or a tensor of one value is needed')
        if name in self._given[phase]:
            raise SettingError(f'log_number({name!r}): this name was given twice in one '
                               f'{"iteration" if phase == "train" else "validation"}; only one hook may use it, and '
                               'only once')
        self._refuse(phase, name in _RESERVED or phase == 'train' and (
            name in self._own_names or name.startswith('learning_rate/')), name)
        self._given[phase].add(name)
        window = self._numbers[phase].setdefault(name, [0.0, 0])
        window[0] += as_float64(value.detach()).reshape(()) if tensor else float(value)
        window[1] += 1

    def _refuse(self, phase, taken, name):
        if taken:
            raise SettingError(f'log_number({name!r}): the rows of {phase} have a column of this name already; choose '
                               'another')

    def before_run(self, runner):
        self.records = RecordWriter(runner.work_dir) if distributed.is_main() else None

    def before_train(self, runner):
        validated_at = 0
        if self.records is not None:
            self.records.cut(runner.iter)
            rows = read_records(runner.work_dir)
            validated_at = max([row['iteration'] for row in rows if row['phase'] == 'val'], default=0)
            self._lowest_error = min([row[_PIXEL] for row in rows if row.get(_PIXEL) is not None], default=math.inf)
        runner.train_loop.validated_at = distributed.of_main(validated_at)
        self._start_clock(runner.iter)

    def after_run(self, runner):
        if self.records is not None:
            runner.visualizer.close()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._given['train'].clear()
        self._own_names.update(outputs.log)
        for name, value in outputs.log.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.to(widest_float(value.device))
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

        Only the newest value stays in the hub, because its buffers are copied whenever they grow: 17 ms per iteration
        after 1e6 iterations.
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
        given = {name: total / count for name, (total, count) in self._over_ranks('val').items()}
        self._numbers['val'] = {}
        self._given['val'].clear()
        for name in given:
            self._refuse('val', name in added or name in (metrics or {}), name)
        metrics = {**added, **(metrics or {}), **given}
        if runner.in_training:
            self._publish(runner, 'val', {'iteration': runner.iter, **metrics})
        runner.logger.info(f'val  iter {runner.iter}  ' + '  '.join(f'{name} {value:.4f}'
                                                                    for name, value in metrics.items()))
        self._start_clock(runner.iter)  # the time of a validation does not count as training

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['log_window'] = {name: (total, self._counts[name]) for name, total in self._mean_sums().items()}
        checkpoint['hub_window'] = {name: list(window) for name, window in self._from_hub.items()}
        # Each rank goes on from an equal share, so that the sum over ranks stays what it is.
        ranks = distributed.world_size()
        checkpoint['number_window'] = {name: [total / ranks, count / ranks]
                                       for name, (total, count) in self._over_ranks('train').items()}
        # Ranks go on from their mean, as a resumed run does: then both print the same digits.
        self.after_load_checkpoint(runner, checkpoint)

    def after_load_checkpoint(self, runner, checkpoint):
        window = checkpoint.get('log_window', {})
        self._counts = {name: count for name, (_, count) in window.items()}
        device = default_device()
        self._sums = {name: total.to(device, widest_float(device)) for name, (total, _) in window.items()}
        self._from_hub = {name: list(pair) for name, pair in checkpoint.get('hub_window', {}).items()}
        self._numbers['train'] = {name: list(pair) for name, pair in checkpoint.get('number_window', {}).items()}

    def _over_ranks(self, phase):
        """Name -> (sum, count) of `log_number` over the window and all ranks, sorted by name; every rank calls it."""
        merged = {}
        for of_rank in distributed.gather({name: (float(total), count)
                                           for name, (total, count) in self._numbers[phase].items()}):
            for name, (total, count) in of_rank.items():
                before = merged.get(name, (0.0, 0))
                merged[name] = before[0] + total, before[1] + count
        return dict(sorted(merged.items()))

    def _mean_sums(self):
        """Name -> float64 sum over the window, averaged over ranks, on the CPU; one transfer and one all-reduce."""
        names = sorted(self._sums)
        if not names:
            return {}
        flat = torch.cat([self._sums[name].reshape(-1) for name in names])
        distributed.average_over_ranks([flat])
        parts = flat.cpu().double().split([self._sums[name].numel() for name in names])
        return {name: part.reshape(self._sums[name].shape).clone() for name, part in zip(names, parts, strict=True)}

    def _report(self, runner, iteration):
        row = {'iteration': iteration}
        for name, total in self._mean_sums().items():
            mean = (total / self._counts[name]).tolist()
            row.update({f'{name}/{i:02d}': value for i, value in enumerate(mean)} if total.ndim else {name: mean})
        row['skipped_updates'] = runner.train_loop.skipped
        # RuntimeInfoHook adds our own terms to the hub too, so names that the row has already are left out.
        row.update({name: total / count for name, (total, count) in self._from_hub.items() if name not in row})
        given = {name: total / count for name, (total, count) in self._over_ranks('train').items()}
        self._sums, self._counts, self._from_hub, self._numbers['train'] = {}, {}, {}, {}
        for turn, wrapper in runner.optim_wrapper.items():
            row[f'learning_rate/{turn}'] = wrapper.param_groups[0]['lr']
        elapsed = time.perf_counter() - self._clock
        done = iteration - self._clock_iteration
        row['seconds_per_iteration'] = elapsed / done
        row['images_per_second'] = runner.train_loop.images_between(self._clock_iteration, iteration) / elapsed
        row['data_wait_share'] = runner.train_loop.data_seconds / elapsed
        row['peak_memory_gib'] = peak_memory_bytes() / 2**30
        runner.train_loop.data_seconds = 0.0
        for name in given:
            self._refuse('train', name in row, name)
        row.update(given)
        self._own_names.update(row.keys() - given.keys())
        self._publish(runner, 'train', row)
        runner.logger.info(_console_line(row, runner.max_iters, given))
        self._warn_of_divergence(runner, row)
        self._start_clock(iteration)

    def _warn_of_divergence(self, runner, row):
        error, lowest = row.get(_PIXEL), self._lowest_error
        if error is None:
            return
        self._lowest_error = min(lowest, error)
        if error > max(1, 10 * lowest) and not self._has_warned:
            self._has_warned = True
            runner.logger.warning(
                f'iteration {row["iteration"]}: the pixel loss per value is {error:.4g}, and was {lowest:.4g}: worse '
                'than that of a grey picture. The training diverges: lower optim_wrapper.autoencoder.optimizer.lr, and '
                'go on from an earlier checkpoint with --resume CHECKPOINT')

    def _publish(self, runner, phase, row):
        if self.records is not None:
            self.records.write(phase, row)
            scalars = {f'{phase}/{name}': value for name, value in row.items() if name != 'iteration'}
            runner.visualizer.add_scalars(scalars, step=row['iteration'])
        runner.call_hook('after_log', phase=phase, row=row)

    def _start_clock(self, iteration):
        self._clock, self._clock_iteration = time.perf_counter(), iteration


def _console_line(row, max_iters, given):
    """One line of text; ``given`` are the names that hooks added by `LoggerHook.log_number`."""
    remaining_s = row['seconds_per_iteration'] * (max_iters - row['iteration'])
    terms = [f'{name.removeprefix("per_pixel/")} {_short(row[name])}' for name in (*_CONSOLE, *given) if name in row]
    return '  '.join([
        f'iter {row["iteration"]}/{max_iters}', *terms, f'lr {row["learning_rate/autoencoder"]:.2e}',
        f'{row["images_per_second"]:.1f} img/s', f'{row["seconds_per_iteration"]:.3f} s/iter',
        f'data {row["data_wait_share"]:.0%}', f'mem {row["peak_memory_gib"]:.2f} GiB',
        f'ETA {timedelta(seconds=round(remaining_s))}'])


def _short(value):
    return f'{value:.4g}' if math.isfinite(value) else str(value)
