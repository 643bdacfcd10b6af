"""One optimizer per turn."""

import difflib
from itertools import chain

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict, build_optim_wrapper

from wfvae_toolkit.checkpoints import CheckpointError
from wfvae_toolkit.models.layers import LayerNorm2d, RMSNorm2d
from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, find_part
from wfvae_toolkit.utils.errors import SettingError, UnknownSetting, is_number, located
from wfvae_toolkit.utils.kinds import parameters_of

TURNS = ('autoencoder', 'discriminator')
_PARAMWISE = {'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult',
              'flat_decay_mult', 'bypass_duplicate'}
# The smallest float16: with a lower scale a gradient of 1 becomes 0. It is 40 halvings below torch's first scale, 2^16.
LOWEST_SCALE = 2.0**-24


class TurnOptimizer(OptimWrapper):
    """MMEngine's wrapper without its synchronisation at every update and without its growing history.

    Args:
        optimizer (Optimizer): of this turn's network.
        clip_grad (dict): arguments of ``clip_grad_norm_``; None: no clipping.
        scaler (GradScaler): of fp16; None: none.
    """

    def __init__(self, optimizer, clip_grad=None, scaler=None):
        super().__init__(optimizer, clip_grad=clip_grad)
        # With several groups (paramwise_cfg) MMEngine adds and saves another group without parameters.
        self.base_param_settings = None
        self.scaler = scaler
        for group in optimizer.param_groups:
            group['initial_lr'] = group['lr']
        # The settings that the config gives each group. Schedules and hooks may change the groups during training.
        self.configured = [_settings_of(group) for group in optimizer.param_groups]

    def backward(self, loss, **kwargs):
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **kwargs)

    @property
    def scale(self):
        """Gradient scale of fp16, a float; None without a scaler. Reading it synchronises the device."""
        return None if self.scaler is None else self.scaler.get_scale()

    def gradient_norm(self):
        """L2 norm of all gradients, unscaled, before clipping; a float32 scalar tensor. Called once an update."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        self._norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self._with_gradient()])
        return self._norm

    def finish(self, apply):
        """Clip and step if ``apply``; clear the gradients in both cases."""
        if apply:
            if self.clip_grad_kwargs:
                limit = dict(self.clip_grad_kwargs)
                torch.nn.utils.clip_grads_with_norm_(self._with_gradient(), limit.pop('max_norm'), self._norm, **limit)
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
        if self.scaler is not None:
            self.scaler.update()
        self.optimizer.zero_grad()

    def state_dict(self):
        state = {**super().state_dict(), 'configured': self.configured}
        return state if self.scaler is None else {**state, 'scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict):
        """Load moments, steps and scale of a checkpoint. A setting that the config has changed comes from the config.

        Raises:
            CheckpointError: the checkpoint has another optimizer, or another number of parameters.
        """
        groups = self._restored_groups(state_dict)
        self._check_kept(state_dict)
        self.optimizer.load_state_dict({'state': state_dict['state'], 'param_groups': groups})
        if self.scaler is not None and 'scaler' in state_dict:
            self.scaler.load_state_dict(state_dict['scaler'])

    def changes(self, state_dict):
        """(setting, before, now) of each setting that differs between a checkpoint's groups and the config's."""
        found = []
        for saved, _, group in self._pairs(state_dict):
            before = {**saved, 'lr': saved.get('initial_lr', saved['lr'])}
            now = {**_settings_of(group), 'lr': group['initial_lr']}
            found += [(name, before[name], value) for name, value in now.items()
                      if name in before and name != 'initial_lr' and not _equal(before[name], value)]
        return [change for number, change in enumerate(found) if change not in found[:number]]

    def _pairs(self, state_dict):
        """(saved group, settings that its config gave it or None, group) for each current group.

        Parameters keep the network's order however ``paramwise_cfg`` groups them, so a group's first parameter finds
        the saved group.
        """
        before = state_dict['param_groups']
        configured = state_dict.get('configured') or [None] * len(before)
        of_parameter = [number for number, group in enumerate(before) for _ in group['params']]
        count = sum(len(group['params']) for group in self.optimizer.param_groups)
        if len(of_parameter) != count:
            raise CheckpointError(f'holds an optimizer of {len(of_parameter)} parameters, the config trains {count}; '
                                  'set the config back, or --resume-drop optimizers starts with fresh ones')
        first, pairs = 0, []
        for group in self.optimizer.param_groups:
            number = of_parameter[first]
            pairs.append((before[number], configured[number], group))
            first += len(group['params'])
        return pairs

    def _restored_groups(self, state_dict):
        keys = chain.from_iterable(group['params'] for group in state_dict['param_groups'])
        groups = []
        for saved, configured, group in self._pairs(state_dict):
            now = _settings_of(group)
            if configured is not None:
                # The config has not changed this setting: keep the value of the checkpoint, which a hook may have set.
                kept = {name for name in saved if name != 'params' and (
                    _equal(configured[name], now[name]) if name in configured and name in now
                    else name not in configured and name not in now)}
                now |= {name: saved[name] for name in kept}
            base, rate = saved.get('initial_lr', saved['lr']), saved['lr']
            if group['initial_lr'] == base:
                now['lr'] = rate
            else:
                # A schedule that multiplies its last rate continues at the same fraction of the new base rate.
                now['lr'] = group['initial_lr'] * (rate / base if base else 1.0)
            groups.append({**now, 'params': [next(keys) for _ in group['params']]})
        return groups

    def _check_kept(self, state_dict):
        """CheckpointError unless the checkpoint holds the state that this optimizer keeps for a parameter.

        Only a step shows that state. This makes one with a zero gradient and restores the parameter afterwards.
        """
        saved_keys = chain.from_iterable(group['params'] for group in state_dict['param_groups'])
        parameters = chain.from_iterable(group['params'] for group in self.optimizer.param_groups)
        parameter, saved = next(((parameter, state_dict['state'][key])
                                 for key, parameter in zip(saved_keys, parameters, strict=True)
                                 if parameter.requires_grad and state_dict['state'].get(key)), (None, None))
        if parameter is None:
            return
        value = parameter.detach().clone()
        parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        parameter.grad = None
        with torch.no_grad():
            parameter.copy_(value)
        kept = set(self.optimizer.state[parameter])
        strange = set() if 'configured' in state_dict else (
            set(state_dict['param_groups'][0]) - set(self.optimizer.param_groups[0]))
        if kept - set(saved) or strange:
            name = type(self.optimizer).__name__
            raise CheckpointError(
                f'holds {", ".join(sorted(saved))} of each parameter, {name} as the config has it keeps '
                f'{", ".join(sorted(kept)) or "nothing"}; set type and options of the optimizer back, or '
                '--resume-drop optimizers starts with fresh ones')

    def _with_gradient(self):
        return [parameter for group in self.optimizer.param_groups for parameter in group['params']
                if parameter.grad is not None]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TurnOptimizers:
    """``optim_wrapper=dict(constructor='TurnOptimizers', autoencoder=dict(optimizer=...), discriminator=...)``.

    Each row has MMEngine's keys of one optimizer (``optimizer``, ``clip_grad=dict(max_norm=...)``, ``paramwise_cfg``).
    Learnable parameters of the losses train with the autoencoder. A learnable logvar does too, at the rate
    ``logvar_lr`` and without weight decay.

    Raises:
        SettingError: a row with an unknown name, or a network that trains without a row.
    """

    def __init__(self, optim_wrapper_cfg):
        self.rows = {name: row for name, row in optim_wrapper_cfg.items() if name not in ('type', 'constructor')}
        self.logvar_lr = self.rows.pop('logvar_lr', 1e-2)
        unknown = set(self.rows) - set(TURNS)
        if unknown:
            raise SettingError(f'{sorted(unknown)[0]}: the rows are {" and ".join(TURNS)}, each with an optimizer of '
                               'its own: autoencoder=dict(optimizer=dict(...), clip_grad=...)')
        if not is_number(self.logvar_lr, 0):
            raise SettingError(f'logvar_lr={self.logvar_lr!r}: a number from 0 is needed, such as 1e-2')

    def __call__(self, model):
        wrappers = {}
        for turn in TURNS:
            network = getattr(model, turn)
            if network is None:
                continue
            with located(turn):
                wrapper = _build(network, self.rows.get(turn))
            scaler = None
            if model.precision == 'fp16':
                scaler = torch.amp.GradScaler(next(network.parameters()).device.type)
            if turn == 'autoencoder':
                self._add_groups(wrapper.optimizer, model)
            limit = {key: value for key, value in (wrapper.clip_grad_kwargs or {}).items() if key != 'norm_type'}
            wrappers[turn] = TurnOptimizer(wrapper.optimizer, limit or None, scaler)
        return OptimWrapperDict(**wrappers)

    def _add_groups(self, optimizer, model):
        """Add the parameters that train with the autoencoder but are not part of it."""
        extra = [parameter for parameter in model.losses.parameters() if parameter.requires_grad]
        if extra:
            optimizer.add_param_group(dict(params=extra))
        if model.logvar.requires_grad:
            optimizer.add_param_group(dict(params=[model.logvar], lr=self.logvar_lr, weight_decay=0.0))


def _settings_of(group):
    return {name: value for name, value in group.items() if name != 'params'}


def _equal(first, second):
    """Whether two settings are equal; a list equals a tuple with the same values."""
    first, second = (tuple(value) if isinstance(value, list) else value for value in (first, second))
    return first == second


def _build(network, row):
    """MMEngine's wrapper of a row of the config."""
    if not isinstance(row, dict):
        found = 'missing' if row is None else repr(row)
        raise SettingError(f"{found}: use dict(optimizer=dict(type='AdamW', lr=1e-5))")
    limit = row.get('clip_grad')
    if limit is not None and not (isinstance(limit, dict) and is_number(limit.get('max_norm'), 0)
                                  and limit.get('norm_type', 2) == 2):
        raise SettingError(f'clip_grad={limit!r}: use dict(max_norm=1e5), a limit of the L2 norm of all gradients, or '
                           'None')
    optimizer = row.get('optimizer')
    if not isinstance(optimizer, dict):
        raise SettingError(f"optimizer={optimizer!r}: use dict(type='AdamW', lr=1e-5)")
    with located('optimizer'):
        find_part(optimizer.get('type', ''), OPTIMIZERS)
        if 'lr' in optimizer and not is_number(optimizer['lr'], 0):
            raise SettingError(f'lr={optimizer["lr"]!r}: a number from 0 is needed, such as 1e-5')
    with located('paramwise_cfg'):
        _check_paramwise(network, row.get('paramwise_cfg'))
    try:
        wrapper = build_optim_wrapper(network, {'constructor': _Paramwise, **row})
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        settings = ', '.join(f'{name}={value!r}' for name, value in optimizer.items())
        raise SettingError(f'dict({settings}): {error}') from error
    with located('optimizer'):
        _check_read(optimizer, wrapper.optimizer)
    return wrapper


def _check_read(settings, optimizer):
    """UnknownSetting for a name that an optimizer with ``**kwargs`` accepts and does not read."""
    read = {*parameters_of(type(optimizer)), *optimizer.defaults} - {'params', 'kwargs'}
    for name in settings:
        if name != 'type' and name not in read:
            near = difflib.get_close_matches(name, read, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise UnknownSetting(f'{type(optimizer).__name__} does not read {name!r}{hint} Its settings are '
                                 f'{", ".join(sorted(read))}')


class _Paramwise(DefaultOptimWrapperConstructor):
    """MMEngine's groups of parameters; our norm layers count as norms too."""

    def add_params(self, params, module, prefix='', is_dcn_module=None):
        cfg = self.paramwise_cfg
        if isinstance(module, (LayerNorm2d, RMSNorm2d)):
            # MMEngine's rules for norms, expressed by its rules for a bias and for a vector.
            self.paramwise_cfg = {name: value for name, value in cfg.items() if name != 'bias_lr_mult'}
            if cfg.get('norm_decay_mult') is not None:
                self.paramwise_cfg.update(dict.fromkeys(('bias_decay_mult', 'flat_decay_mult'), cfg['norm_decay_mult']))
        super().add_params(params, module, prefix, is_dcn_module)
        self.paramwise_cfg = cfg


def _check_paramwise(network, cfg):
    """SettingError for a key that MMEngine would ignore."""
    if cfg is None:
        return
    if not isinstance(cfg, dict) or cfg.keys() - _PARAMWISE:
        raise SettingError(f'{cfg!r}: use a dict of {", ".join(sorted(_PARAMWISE))}')
    names = [name for name, _ in network.named_parameters()]
    for key in cfg.get('custom_keys', {}):
        if not any(key in name for name in names):
            raise SettingError(f'custom_keys: {key!r} occurs in no parameter name; names start with '
                               f'{", ".join(sorted({name.partition(".")[0] for name in names}))}')
