"""Train a flow on cached latents: ``python -m latent_diffusion.train LATENTS --steps 1000 --work-dir DIR``.

MMEngine's Runner with its logger, learning-rate and EMA hooks. The toolkit's own runner trains autoencoders: its loop
has two networks' turns and pictures. A batch and its noise are functions of seed and iteration, so a run that is
stopped at any time goes on from ``last.pth`` as if it had not been.
"""

import argparse
import itertools
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader, Dataset

from wfvae_toolkit.datasets import EpochOrder
from wfvae_toolkit.latents import CachedLatents
from wfvae_toolkit.utils.errors import NotFinite, SettingError
from wfvae_toolkit.utils.files import atomic_write
from wfvae_toolkit.utils.options import friendly_errors
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.seeding import mix_seed

from .flow import LatentFlow

LAST = 'last.pth'


@dataclass(frozen=True)
class FlowSettings:
    """Everything that decides a training, beside its latents.

    Args:
        steps (int): updates.
        seed (int): of weights, order, samples of the posterior and noise.
        by_class (bool): the first folder of a latent's name is its class.
        batch_size (int): latents an update.
        lr (float): of AdamW; it warms up over the first 5 % and ends at 0 by a cosine.
        ema (float): weight of an update in the average of the weights, larger at the start.
        patch, width, depth, heads (int): of `FlowTransformer`.
    """

    steps: int
    seed: int = 0
    by_class: bool = False
    batch_size: int = 64
    lr: float = 1e-3
    ema: float = 0.005
    patch: int = 2
    width: int = 192
    depth: int = 6
    heads: int = 6

    def __post_init__(self):
        for name in ('steps', 'batch_size', 'patch', 'depth', 'heads'):
            if getattr(self, name) < 1:
                raise SettingError(f'{name}={getattr(self, name)}: use 1 or more')


class LabelledLatents(Dataset):
    """CachedLatents with a ``label`` beside each latent: the number of its class in ``classes``.

    Args:
        latents (CachedLatents): named by paths.
        by_class (bool): the first folder of a name is its class; False: one class, 0.

    Raises:
        SettingError: a name without a folder.
    """

    def __init__(self, latents, by_class=False):
        self.latents = latents
        found = [name.partition('/')[0] if '/' in name else None for name in latents.names] if by_class else []
        if None in found:
            raise SettingError(f'{latents.names[found.index(None)]!r} stands in no folder, which would be its class; '
                               'give every class a folder, or train without classes')
        self.classes = sorted(set(found))
        self._labels = [self.classes.index(name) for name in found] or [0] * len(latents)

    def __len__(self):
        return len(self.latents)

    def __getitem__(self, number):
        return {'latent': self.latents[number]['latent'], 'label': self._labels[number]}

    def whole(self):
        """All latents (N, C, h, w), and labels (N,), None without classes."""
        latents = torch.stack([self.latents[number]['latent'] for number in range(len(self))])
        return latents, torch.tensor(self._labels) if self.classes else None


class Batches:
    """Lists of numbers for a DataLoader, from batch ``first`` of the endless order on."""

    def __init__(self, length, batch_size, seed):
        self.order, self.length = EpochOrder(length, (seed,)), length
        self.batch_size, self.first = batch_size, 0

    def __len__(self):
        """Of an epoch; MMEngine asks."""
        return -(-self.length // self.batch_size)

    def __iter__(self):
        for batch in itertools.count(self.first):
            yield [self.order(batch * self.batch_size + place) for place in range(self.batch_size)]


class FlowLoop(BaseLoop):
    """MMEngine's loop over updates, which begins anywhere without reading what comes before."""

    max_epochs, epoch, stop_training = 1, 0, False

    def __init__(self, runner, dataloader, max_iters):
        super().__init__(runner, dataloader)
        self.max_iters, self.iter, self.seconds = max_iters, 0, 0.0

    def run(self):
        runner, latents = self.runner, self.dataloader.dataset.latents
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        runner.model.train()
        self.dataloader.batch_sampler.first = self.iter
        batches = iter(self.dataloader)
        for number in progress(range(self.iter, self.max_iters), 'updates', self.max_iters - self.iter):
            start = time.perf_counter()
            latents.set_epoch(number)  # other samples and flips
            batch = next(batches)
            runner.call_hook('before_train_iter', batch_idx=number, data_batch=batch)
            torch.manual_seed(mix_seed('iteration', runner.seed, number))
            outputs = runner.model.train_step(batch, runner.optim_wrapper)
            if not outputs['loss'].isfinite():
                raise NotFinite(f'update {number + 1}: the loss is not finite; use a lower lr')
            self.seconds += time.perf_counter() - start
            runner.call_hook('after_train_iter', batch_idx=number, data_batch=batch, outputs=outputs)
            self.iter = number + 1
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model


class FlowRunner(Runner):
    """MMEngine's Runner with one checkpoint, ``last.pth``, of tensors and plain values.

    torch loads nothing else by default, and MMEngine's own checkpoints hold more. With an EMAHook ``state_dict`` holds
    the averaged weights and ``ema_state_dict`` the raw ones, as MMEngine swaps them.
    """

    def __init__(self, settings, **arguments):
        super().__init__(**arguments)
        self.settings = settings

    def _log_env(self, env_cfg):
        """Log nothing: MMEngine's version imports torchvision, which takes seconds and may not fit torch."""

    def dump_config(self):
        """Write nothing: last.pth holds the settings."""

    def save(self, iteration):
        """Replace ``last.pth`` by the state after ``iteration`` updates."""
        checkpoint = {'meta': {**self.settings, 'iteration': iteration, 'seconds': self.train_loop.seconds},
                      'state_dict': self.model.state_dict(), 'optimizer': self.optim_wrapper.state_dict(),
                      'schedulers': [scheduler.state_dict() for scheduler in self.param_schedulers]}
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        with atomic_write(Path(self.work_dir) / LAST) as file:
            torch.save(checkpoint, file)

    def load_or_resume(self):
        path = Path(self.work_dir) / LAST
        if not path.is_file():
            return
        checkpoint = read_checkpoint(path)
        check_settings(path, checkpoint['meta'], self.settings)
        self._resume = True  # the EMA hook asks
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        self.model.load_state_dict(checkpoint['state_dict'])
        self.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        for scheduler, state in zip(self.param_schedulers, checkpoint['schedulers'], strict=True):
            scheduler.load_state_dict(state)
        self.train_loop.iter = checkpoint['meta']['iteration']
        self.train_loop.seconds = checkpoint['meta']['seconds']


class SaveHook(Hook):
    """Replaces ``last.pth`` every ``interval`` updates and after the last one."""

    priority = 'LOWEST'

    def __init__(self, interval):
        self.interval = interval

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (batch_idx + 1) % self.interval == 0 or batch_idx + 1 == runner.max_iters:
            runner.save(batch_idx + 1)


def train_flow(latents, settings, folder, interval=200):
    """Train on CachedLatents in a folder, or go on; -> `Flow` with the averaged weights.

    Raises:
        SettingError: the folder holds a training with other settings or latents, or a setting that cannot work.
        NotFinite: the loss is NaN or infinite.
    """
    folder = Path(folder)
    data = LabelledLatents(latents, settings.by_class)
    facts = {**asdict(settings), 'classes': data.classes, 'latent_shape': list(latents.latent_shape),
             'latents': latents.settings['model'], 'names': latents.settings['names'], 'latents_seed': latents.seed}
    if (folder / LAST).is_file():
        done = read_checkpoint(folder / LAST)['meta']
        check_settings(folder / LAST, done, facts)
        if done['iteration'] >= settings.steps:
            return load_flow(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(mix_seed('initial weights', settings.seed))
    runner = FlowRunner(
        facts, model=build_flow(facts), work_dir=str(folder),
        train_dataloader=DataLoader(data, batch_sampler=Batches(len(data), settings.batch_size, settings.seed)),
        train_cfg=dict(type=FlowLoop, max_iters=settings.steps),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.01),
                           clip_grad=dict(max_norm=1.0)),
        param_scheduler=_schedule(settings.steps),
        default_hooks=dict(checkpoint=None, sampler_seed=None, logger=dict(type='LoggerHook', interval=50)),
        custom_hooks=[dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=settings.ema, gamma=10),
                      SaveHook(interval)],
        log_processor=dict(by_epoch=False), randomness=dict(seed=settings.seed), log_level='WARNING',
        experiment_name=f'flow {folder.resolve()} {time.time_ns()}', default_scope='mmengine')
    runner.train()
    return load_flow(folder)


def _schedule(steps):
    warmup = max(1, steps // 20)
    return [dict(type='LinearLR', start_factor=1 / (warmup + 1), by_epoch=False, begin=0, end=warmup),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max(steps, warmup + 1), eta_min=0.0)]


def flow_options(words):
    """``['width=192', ...]`` -> {'width': 192}, settings of `FlowSettings` that a study does not set.

    Raises:
        SettingError: an unknown name, or a value of another kind.
    """
    taken = ('steps', 'seed', 'by_class')
    kinds = {entry.name: entry.type for entry in fields(FlowSettings) if entry.name not in taken}
    found = {}
    for word in words:
        name, _, text = word.partition('=')
        try:
            found[name] = kinds[name](text)
        except (KeyError, ValueError):
            raise SettingError(f'--flow {word}: use KEY=NUMBER with one of {", ".join(kinds)}') from None
    return found


@dataclass
class Flow:
    """A trained flow: ``network`` with averaged weights, in evaluation mode, and ``meta`` of its checkpoint."""

    network: torch.nn.Module
    meta: dict


def load_flow(folder):
    """A folder of `train_flow` -> Flow; SettingError if there is none."""
    path = Path(folder) / LAST
    if not path.is_file():
        raise SettingError(f'{folder} holds no {LAST}: train a flow there first')
    checkpoint = read_checkpoint(path)
    model = build_flow(checkpoint['meta'])
    model.load_state_dict(checkpoint['state_dict'])
    return Flow(model.network.eval().requires_grad_(False), checkpoint['meta'])


def build_flow(meta):
    """Settings of a checkpoint -> LatentFlow."""
    return LatentFlow(meta['latent_shape'], len(meta['classes']), **{name: meta[name] for name in (
        'patch', 'width', 'depth', 'heads')})


def read_checkpoint(path):
    """Content of a ``last.pth``; nothing in it is executed."""
    return torch.load(path, map_location='cpu', weights_only=True)


def check_settings(path, before, now):
    """SettingError that names the settings that differ."""
    other = [f'{name} was {before[name]!r} and is {value!r}' for name, value in now.items() if before[name] != value]
    if other:
        raise SettingError(f'{path} is of a training with other settings: {"; ".join(other)}; use another folder, or '
                           'remove it')


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(description='Train a flow on cached latents. The same command goes on.')
    parser.add_argument('latents', metavar='LATENTS', help='a folder of tools/cache_latents.py')
    parser.add_argument('--work-dir', required=True, metavar='DIR')
    parser.add_argument('--steps', type=int, required=True, metavar='N', help='updates')
    parser.add_argument('--seed', type=int, default=0, metavar='N')
    parser.add_argument('--classes', dest='by_class', action='store_true', help='the first folder of a name is a class')
    parser.add_argument('--batch-size', type=int, default=FlowSettings.batch_size, metavar='N')
    options = vars(parser.parse_args(arguments))
    latents, folder = CachedLatents(options.pop('latents'), seed=options['seed']), options.pop('work_dir')
    flow = train_flow(latents, FlowSettings(**options), folder)
    print(f'{flow.meta["iteration"]} updates in {flow.meta["seconds"]:.0f} s, in {folder}/{LAST}')


if __name__ == '__main__':
    main()
