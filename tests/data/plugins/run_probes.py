"""Hooks of the tests' own, named in configs by their dotted path."""

import collections
import json
import multiprocessing
import os
import signal
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import StorageError
from wfvae_toolkit.utils.signals import was_restarted
from wfvae_toolkit.visualization.curves import Curve


class Interrupted(Exception):
    """A crash on purpose."""


class StopAt(Hook):
    """Ends a run after ``iteration`` updates.

    'stop' asks the loop to, 'raise' crashes, the name of a signal sends it to the process of ``rank`` or, without one,
    of every rank, 'group NAME' to the loader's workers as well. 'unreadable' lets them read no more pictures,
    'unreadable validation' none of the next validation. Processes that torchrun started again are left alone.
    """

    priority = 'LOWEST'  # after the checkpoint

    def __init__(self, iteration, how='stop', rank=None):
        self.iteration = iteration
        self.how = how
        self.rank = rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 != self.iteration or was_restarted():
            return
        if self.how == 'raise':
            raise Interrupted
        if self.how == 'stop':
            runner.train_loop.stop_training = True
        elif self.rank not in (None, distributed.rank()):
            return
        elif self.how == 'unreadable':
            runner.train_loop._batches = iter(Unreadable())
        elif self.how == 'unreadable validation':
            runner.val_loop.dataloader = Unreadable()
        else:
            name = self.how.removeprefix('group ')
            workers = multiprocessing.active_children() if name != self.how else ()
            for process in [*(worker.pid for worker in workers), os.getpid()]:
                os.kill(process, getattr(signal, name))


class Unreadable:
    """A loader of a place that is gone."""

    def __len__(self):
        return 1

    def __iter__(self):
        raise StorageError('the disk is gone')
        yield


class StopAtScores(Hook):
    """Crashes when the scores of ``iteration`` are logged and their weights are not yet kept as the best."""

    priority = 'LOW'  # between LoggerHook and CheckpointHook

    def __init__(self, iteration):
        self.iteration = iteration

    def after_val_epoch(self, runner, metrics=None):
        if runner.iter == self.iteration:
            raise Interrupted


class GivenScores(Hook):
    """Adds the column ``given`` to the validations: a score by iteration. Ends the run after the one of ``stop_at``."""

    higher_is_better = {'given': True}

    def __init__(self, scores, stop_at=None):
        self.scores, self.stop_at = scores, stop_at

    def after_val_epoch(self, runner, metrics=None):
        if runner.iter in self.scores:
            metrics['given'] = self.scores[runner.iter]
        if runner.iter == self.stop_at:
            runner.train_loop.stop_training = True


class SpoilAt(Hook):
    """From update ``iteration`` on, ``count`` updates have a loss that is not finite, on ``rank`` alone if given."""

    def __init__(self, iteration, count=1, rank=None, row='pixel'):
        self.iteration = iteration
        self.left = count
        self.rank = rank
        self.row = row

    def before_run(self, runner):
        row = runner.model.losses[self.row]
        forward = row.forward
        row.forward = lambda step: forward(step) * (float('nan') if self.spoilt else 1.0)
        self.spoilt = False

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.spoilt = batch_idx + 1 >= self.iteration and self.left > 0 and self.rank in (None, distributed.rank())
        self.left -= batch_idx + 1 >= self.iteration


class SpoilGradients(Hook):
    """Every gradient of the encoder's first conv is NaN, whatever its scale; the terms are not."""

    def before_run(self, runner):
        runner.model.autoencoder.encoder.conv_in.weight.register_hook(lambda gradient: gradient * float('nan'))


class Attempts(Hook):
    """Writes ``attempts.json``: what each update, made or not, found; with ``scale``, that of fp16 at the start."""

    priority = 'LOWEST'

    def __init__(self, scale=None):
        self.scale = scale

    def before_train(self, runner):
        self.rows = []
        if self.scale is not None:
            for wrapper in runner.optim_wrapper.values():
                wrapper.scaler = torch.amp.GradScaler('cpu', init_scale=self.scale)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        networks = {'weights': runner.model.autoencoder, 'average': runner.averaged_autoencoder}
        wrapper = runner.optim_wrapper['autoencoder']
        self.rows.append({
            'iteration': batch_idx, 'consumed': runner.train_loop.consumed, 'turns': runner.model.turns_of(batch_idx),
            'rate': wrapper.param_groups[0]['lr'], 'scale': wrapper.scaler and wrapper.scaler.get_scale(),
            **{name: sum(p.double().sum().item() for p in network.parameters()) for name, network in networks.items()}})

    def after_train(self, runner):
        (Path(runner.work_dir) / 'attempts.json').write_text(json.dumps(self.rows), encoding='utf-8')


class RankRecord(Hook):
    """Writes ``rank_R.json``: an entry an update with its turn, logged values and all-reduces of gradients."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.rows, self.reduced = [], {}
        for name, network_pass in runner.model._passes.items():
            if hasattr(network_pass, 'register_comm_hook'):
                network_pass.register_comm_hook(name, self._count)

    def _count(self, name, bucket):
        self.reduced[name] = self.reduced.get(name, 0) + bucket.buffer().numel()
        return allreduce_hook(None, bucket)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rows.append({'turn': outputs.turns[0], 'reduced': self.reduced,
                          'log': {name: value.item() for name, value in outputs.log.items() if not value.ndim}})
        self.reduced = {}

    def after_train(self, runner):
        sizes = {name: sum(p.numel() for p in network_pass.parameters() if p.requires_grad)
                 for name, network_pass in runner.model._passes.items()}
        path = Path(runner.work_dir) / f'rank_{distributed.rank()}.json'
        path.write_text(json.dumps({'sizes': sizes, 'rows': self.rows}), encoding='utf-8')


class SizesAt(Hook):
    """``seen``: after each of ``iterations`` updates, what ``count_held`` finds in the run."""

    priority = 'LOWEST'
    seen = []

    def __init__(self, iterations):
        self.iterations = iterations
        self.seen.clear()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 in self.iterations:
            self.seen.append(count_held(runner))


def count_held(root):
    """(items in containers, values in tensors) that can be reached from ``root``.

    Left out: classes, and curves, which have a bound of their own.
    """
    met, pending, items, values = [], [root], 0, 0
    known = set()
    while pending:
        held = pending.pop()
        if id(held) in known or isinstance(held, (type, Curve, SizesAt)):
            continue
        known.add(id(held))
        met.append(held)  # alive until the end: else a new object could have its id
        if isinstance(held, torch.Tensor):
            values += held.numel()
        elif isinstance(held, dict):
            pending += [*held.keys(), *held.values()]
            items += len(held)
        elif isinstance(held, (list, tuple, set, frozenset, collections.deque)):
            pending += held
            items += len(held)
        else:
            pending += getattr(held, '__dict__', {}).values()
    return items, values


class MirroredLoss(Loss):
    """sum |decoded mirrored latents - mirrored target| per image: a row that runs the autoencoder again."""

    needs_autoencoder = True

    def forward(self, step):
        self.seeds = step.seeds
        decoded = step.autoencoder.decode(step.latents.flip(-1)).sample
        return (decoded - step.target.flip(-1)).abs().sum() / len(step.target)


class BatchRecord(Hook):
    """Writes shapes and positions of the micro-batches of every update to ``batches.pth``."""

    def before_run(self, runner):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rows.append({'shapes': [tuple(batch.images.shape) for batch in data_batch],
                          'positions': [position for batch in data_batch for position in batch.positions]})
        torch.save(self.rows, f'{runner.work_dir}/batches.pth')
