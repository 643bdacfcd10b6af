"""One optimizer a turn."""

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper

from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS
from wfvae_toolkit.utils.errors import SettingError

TURNS = ('autoencoder', 'discriminator')


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

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.rows = {name: row for name, row in optim_wrapper_cfg.items() if name not in ('type', 'constructor')}
        self.logvar_lr = self.rows.pop('logvar_lr', 1e-2)
        unknown = set(self.rows) - set(TURNS)
        if unknown:
            raise SettingError(f'optim_wrapper.{sorted(unknown)[0]}: the rows are {" and ".join(TURNS)}')

    def __call__(self, model):
        wrappers = {}
        for turn in TURNS:
            network = getattr(model, turn)
            if network is None:
                continue
            if self.rows.get(turn) is None:
                raise SettingError(f'optim_wrapper.{turn} is missing, such as '
                                   "dict(optimizer=dict(type='AdamW', lr=1e-5))")
            wrapper = build_optim_wrapper(network, dict(self.rows[turn]))
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
