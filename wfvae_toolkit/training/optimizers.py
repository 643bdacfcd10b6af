"""One optimizer a turn."""

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper

from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, find_part
from wfvae_toolkit.utils.errors import SettingError, is_number, located

TURNS = ('autoencoder', 'discriminator')
# The smallest float16: at a lower scale a gradient of 1 would vanish. From torch's 2^16 it is 40 halvings away.
LOWEST_SCALE = 2.0**-24


class TurnOptimizer(OptimWrapper):
    """MMEngine's wrapper without its per-update synchronisation and its growing history.

    Args:
        optimizer (Optimizer): of this turn's network.
        clip_grad (dict): arguments of ``clip_grad_norm_``; None: no clipping.
        scaler (GradScaler): of fp16; None: none.
    """

    def __init__(self, optimizer, clip_grad=None, scaler=None):
        super().__init__(optimizer, clip_grad=clip_grad)
        self.scaler = scaler

    def backward(self, loss, **kwargs):
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **kwargs)

    @property
    def scale(self):
        """Factor of fp16's gradients, a float; None without a scaler. Reading it synchronises the device."""
        return None if self.scaler is None else self.scaler.get_scale()

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
            raise SettingError(f'{sorted(unknown)[0]}: the rows are {" and ".join(TURNS)}')
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
            wrappers[turn] = TurnOptimizer(wrapper.optimizer, wrapper.clip_grad_kwargs, scaler)
        optimizer = wrappers['autoencoder'].optimizer
        extra = [parameter for parameter in model.losses.parameters() if parameter.requires_grad]
        if extra:
            optimizer.add_param_group(dict(params=extra))
        if model.logvar.requires_grad:
            optimizer.add_param_group(dict(params=[model.logvar], lr=self.logvar_lr, weight_decay=0.0))
        for wrapper in wrappers.values():
            for group in wrapper.optimizer.param_groups:
                group['initial_lr'] = group['lr']
        return OptimWrapperDict(**wrappers)


def _build(network, row):
    """MMEngine's wrapper of a row of the config."""
    if not isinstance(row, dict):
        found = 'missing' if row is None else repr(row)
        raise SettingError(f"{found}: use dict(optimizer=dict(type='AdamW', lr=1e-5))")
    limit = row.get('clip_grad')
    if limit is not None and not (isinstance(limit, dict) and is_number(limit.get('max_norm'), 0)):
        raise SettingError(f'clip_grad={limit!r}: use dict(max_norm=1e5), or None')
    optimizer = row.get('optimizer')
    if not isinstance(optimizer, dict):
        raise SettingError(f"optimizer={optimizer!r}: use dict(type='AdamW', lr=1e-5)")
    with located('optimizer'):
        find_part(optimizer.get('type', ''), OPTIMIZERS)
        if 'lr' in optimizer and not is_number(optimizer['lr'], 0):
            raise SettingError(f'lr={optimizer["lr"]!r}: a number from 0 is needed, such as 1e-5')
    try:
        return build_optim_wrapper(network, dict(row))
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        settings = ', '.join(f'{name}={value!r}' for name, value in optimizer.items())
        raise SettingError(f'dict({settings}): {error}') from error
