"""One optimizer a turn."""

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict, build_optim_wrapper

from wfvae_toolkit.models.layers import LayerNorm2d, RMSNorm2d
from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, find_part
from wfvae_toolkit.utils.errors import SettingError, is_number, located

TURNS = ('autoencoder', 'discriminator')
_PARAMWISE = {'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult',
              'flat_decay_mult', 'bypass_duplicate'}


class TurnOptimizer(OptimWrapper):
    """MMEngine's wrapper without its per-update synchronisation and its growing history.

    Args:
        optimizer (Optimizer): of this turn's network.
        clip_grad (dict): arguments of ``clip_grad_norm_``; None: no clipping.
        scaler (GradScaler): of fp16; None: none.
    """

    def __init__(self, optimizer, clip_grad=None, scaler=None):
        super().__init__(optimizer, clip_grad=clip_grad)
        # With several groups (paramwise_cfg) MMEngine lists one more, of no parameters, and saves it.
        self.base_param_settings = None
        self.scaler = scaler

    def backward(self, loss, **kwargs):
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **kwargs)

    def gradient_norm(self):
        """L2 norm of all gradients, unscaled, before clipping; a float32 scalar tensor. Called once an update."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        self._norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self._with_gradient()])
        return self._norm

    def finish(self, apply):
        """Clip and step if ``apply``; drop the gradients either way."""
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
        state = super().state_dict()
        return state if self.scaler is None else {**state, 'scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict):
        state_dict = dict(state_dict)
        scaler_state = state_dict.pop('scaler', None)
        super().load_state_dict(state_dict)
        if self.scaler is not None and scaler_state is not None:
            self.scaler.load_state_dict(scaler_state)

    def _with_gradient(self):
        return [parameter for group in self.optimizer.param_groups for parameter in group['params']
                if parameter.grad is not None]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TurnOptimizers:
    """``optim_wrapper=dict(constructor='TurnOptimizers', autoencoder=dict(optimizer=...), discriminator=...)``.

    Each row is what MMEngine takes for one optimizer (``optimizer``, ``clip_grad=dict(max_norm=...)``,
    ``paramwise_cfg``). Learnable parameters of the losses train with the autoencoder; a learnable logvar too, at
    ``logvar_lr`` and without weight decay.

    Raises:
        SettingError: a row that is neither turn, or none for a network that trains.
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
            limit = {key: value for key, value in (wrapper.clip_grad_kwargs or {}).items() if key != 'norm_type'}
            wrappers[turn] = TurnOptimizer(wrapper.optimizer, limit or None, scaler)
        optimizer = wrappers['autoencoder'].optimizer
        extra = [parameter for parameter in model.losses.parameters() if parameter.requires_grad]
        if extra:
            optimizer.add_param_group(dict(params=extra))
        if model.logvar.requires_grad:
            optimizer.add_param_group(dict(params=[model.logvar], lr=self.logvar_lr, weight_decay=0.0))
        for wrapper in wrappers.values():
            for group in wrapper.param_groups:
                group['initial_lr'] = group['lr']
        return OptimWrapperDict(**wrappers)


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
        return build_optim_wrapper(network, {'constructor': _Paramwise, **row})
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        settings = ', '.join(f'{name}={value!r}' for name, value in optimizer.items())
        raise SettingError(f'dict({settings}): {error}') from error


class _Paramwise(DefaultOptimWrapperConstructor):
    """MMEngine's groups of parameters, for which our norms are norms too."""

    def add_params(self, params, module, prefix='', is_dcn_module=None):
        cfg = self.paramwise_cfg
        if isinstance(module, (LayerNorm2d, RMSNorm2d)):
            # MMEngine's rules for norms, said in those for any bias and any vector.
            self.paramwise_cfg = {name: value for name, value in cfg.items() if name != 'bias_lr_mult'}
            if cfg.get('norm_decay_mult') is not None:
                self.paramwise_cfg.update(dict.fromkeys(('bias_decay_mult', 'flat_decay_mult'), cfg['norm_decay_mult']))
        super().add_params(params, module, prefix, is_dcn_module)
        self.paramwise_cfg = cfg


def _check_paramwise(network, cfg):
    """SettingError for what MMEngine would pass over."""
    if cfg is None:
        return
    if not isinstance(cfg, dict) or cfg.keys() - _PARAMWISE:
        raise SettingError(f'{cfg!r}: use a dict of {", ".join(sorted(_PARAMWISE))}')
    names = [name for name, _ in network.named_parameters()]
    for key in cfg.get('custom_keys', {}):
        if not any(key in name for name in names):
            raise SettingError(f'custom_keys: {key!r} is part of no name of a parameter; names start with '
                               f'{", ".join(sorted({name.partition(".")[0] for name in names}))}')
