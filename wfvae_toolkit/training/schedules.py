"""MMEngine's parameter schedulers as a function of the iteration."""

import copy
import inspect

import torch

from wfvae_toolkit.registry import PARAM_SCHEDULERS, find_part
from wfvae_toolkit.utils.errors import SettingError, located

from .optimizers import TURNS


class ParamSchedules:
    """``param_scheduler`` of a config: values of the optimizers' settings at an iteration.

    The schedulers run on stand-in optimizers with the configured settings, from iteration 0. Their values depend only
    on config and iteration: a resumed run gets the same values, and a changed base rate takes effect.

    Args:
        cfg (list[dict] | dict): schedulers for every optimizer, or a dict of them by turn.
        wrappers (OptimWrapperDict): as built, before a checkpoint is loaded.
        max_iters (int): of the run; the default of ``end``.

    Raises:
        SettingError: a scheduler that cannot work; the message names its key.
    """

    def __init__(self, cfg, wrappers, max_iters):
        self._cfg, self._wrappers, self.max_iters = cfg, wrappers, max_iters
        # Loading a checkpoint replaces the optimizers' settings.
        self._settings = {turn: [{name: copy.deepcopy(value) for name, value in group.items() if name != 'params'}
                                 for group in wrapper.optimizer.param_groups] for turn, wrapper in wrappers.items()}
        self._read_rows()
        for rows in self._rows.values():
            for _, arguments, place in rows:
                if arguments.get('begin', 0) >= max_iters:
                    raise SettingError(f'{place}: begin={arguments["begin"]}: the run ends earlier, at '
                                       f'train_cfg.max_iters={max_iters}')

    def _read_rows(self):
        self._rows = {turn: _resolve(row, self.max_iters, place) for turn, row, place in
                      _by_turn(self._cfg, self._wrappers)}
        self._start()

    def _start(self):
        self._iteration = 0
        self._standins, self._schedulers = {}, []
        for turn, rows in self._rows.items():
            self._standins[turn] = standin = _StandIn(self._settings[turn], self._wrappers[turn].optimizer.defaults)
            for cls, arguments, place in rows:
                with located(place):
                    try:
                        self._schedulers.append(cls(standin, **arguments))
                    except (TypeError, ValueError, LookupError, AssertionError) as error:
                        raise SettingError(f'{cls.__name__}: {error}') from error

    def apply(self, iteration):
        """Set the optimizers' settings for update number ``iteration``, counted from 0."""
        for turn, groups in self.at(iteration).items():
            for group, values in zip(self._wrappers[turn].optimizer.param_groups, groups, strict=True):
                group.update(values)

    def at(self, iteration):
        """Turn -> list with one dict of scheduled settings per group of its optimizer."""
        if iteration < self._iteration:
            self._start()
        while self._iteration < iteration:
            for standin in self._standins.values():
                standin.step()
            for scheduler in self._schedulers:
                scheduler.step()
            self._iteration += 1
        scheduled = {scheduler.param_name for scheduler in self._schedulers}
        if 'momentum' in scheduled:
            scheduled.add('betas')  # where Adam keeps it
        return {turn: [{name: group[name] for name in scheduled & settings.keys()}
                       for group, settings in zip(standin.param_groups, self._settings[turn], strict=True)]
                for turn, standin in self._standins.items()}

    def differ_before(self, iteration, max_iters):
        """Whether a run of ``max_iters`` would have other settings at an update before ``iteration``."""
        other = copy.copy(self)
        other.max_iters = max_iters
        other._read_rows()
        return any(self.at(i) != other.at(i) for i in range(iteration))


class _StandIn(torch.optim.Optimizer):
    """The settings of an optimizer's groups, with nothing to train."""

    def __init__(self, groups, defaults):
        super().__init__([{'params': [torch.zeros(1)], **copy.deepcopy(group)} for group in groups], dict(defaults))

    def step(self):
        """Does nothing; torch's schedulers expect this call before their own step."""


def _by_turn(cfg, wrappers):
    """(turn, list of configs, place) for every optimizer."""
    if isinstance(cfg, dict) and 'type' not in cfg:
        unknown = set(cfg) - set(TURNS)
        if unknown:
            raise SettingError(f'param_scheduler.{sorted(unknown)[0]}: a list for every optimizer, or a dict with the '
                               f'rows {" and ".join(TURNS)}')
        missing = [turn for turn, _ in wrappers.items() if turn not in cfg]
        if missing:
            raise SettingError(f'param_scheduler has no row {missing[0]}; give {missing[0]}=[] for a constant rate')
        return [(turn, _listed(cfg[turn]), f'param_scheduler.{turn}') for turn, _ in wrappers.items()]
    return [(turn, _listed(cfg), 'param_scheduler') for turn, _ in wrappers.items()]


def _listed(row):
    return [row] if isinstance(row, dict) else row


def _resolve(rows, max_iters, place):
    """Configs -> [(class, arguments, place)]."""
    if not isinstance(rows, (list, tuple)):
        with located(place):
            raise SettingError(f"{rows!r}: a list is needed, such as [dict(type='CosineAnnealingLR', by_epoch=False)]")
    resolved = []
    for number, cfg in enumerate(rows):
        with located(f'{place}.{number}'):
            resolved.append((*_check(cfg, max_iters), f'{place}.{number}'))
    return resolved


def _check(cfg, max_iters):
    """A scheduler's config -> (class, arguments)."""
    if not isinstance(cfg, dict) or not isinstance(cfg.get('type'), (str, type)):
        raise SettingError(f"{cfg!r}: use dict(type='LinearLR', by_epoch=False, ...)")
    arguments = {name: value for name, value in cfg.items() if name != 'type'}
    cls = find_part(cfg['type'], PARAM_SCHEDULERS) if isinstance(cfg['type'], str) else cfg['type']
    if getattr(cls, 'need_val_args', False):
        raise SettingError(f'{cls.__name__}: its rates depend on scores, so a resumed run could not have the same; '
                           'use MultiStepLR with milestones of your choice, or EarlyStoppingHook')
    if arguments.pop('convert_to_iter_based', False) or arguments.get('by_epoch') is not False:
        raise SettingError(f'{cls.__name__}: set by_epoch=False and count in iterations, which are updates of weights; '
                           'there are no epochs here')
    # MMEngine's schedulers pass arguments on to their bases.
    known = {name for base in cls.__mro__ for name in inspect.signature(base.__init__).parameters}
    known -= {'self', 'args', 'kwargs', 'optimizer', 'last_step', 'by_epoch'}
    unknown = arguments.keys() - known - {'by_epoch'}
    if unknown:
        raise SettingError(f'{cls.__name__}: no setting {sorted(unknown)[0]}; its settings are {sorted(known)}')
    return cls, {'end': max(max_iters, arguments.get('begin', 0) + 1), **arguments}
