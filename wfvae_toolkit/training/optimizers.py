"""One optimizer a turn."""

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper

from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS
from wfvae_toolkit.utils.errors import SettingError

TURNS = ('autoencoder', 'discriminator')


class TurnOptimizer(OptimWrapper):
    """MMEngine's wrapper without its per-update synchronisation and its growing history.

    ``last_gradient_norm``: L2 norm before clipping, a tensor on the device; None without ``clip_grad``.
    """

    last_gradient_norm = None

    def _clip_grad(self):
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if parameters:
            self.last_gradient_norm = torch.nn.utils.clip_grad_norm_(parameters, **self.clip_grad_kwargs)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TurnOptimizers:
    """``optim_wrapper=dict(constructor='TurnOptimizers', autoencoder=dict(optimizer=...), discriminator=...)``.

    Each row is what MMEngine takes for one optimizer (``optimizer``, ``clip_grad=dict(max_norm=...)``,
    ``paramwise_cfg``). Learnable parameters of the losses train with the autoencoder.

    Raises:
        ValueError: a row that is neither turn, or none for a network that trains.
    """

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.rows = {name: row for name, row in optim_wrapper_cfg.items() if name not in ('type', 'constructor')}
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
            wrappers[turn] = TurnOptimizer(wrapper.optimizer, clip_grad=wrapper.clip_grad_kwargs)
        extra = [p for p in model.losses.parameters() if p.requires_grad]
        if extra:
            wrappers['autoencoder'].optimizer.add_param_group(dict(params=extra))
        for wrapper in wrappers.values():
            for group in wrapper.optimizer.param_groups:
                group['initial_lr'] = group['lr']
        return OptimWrapperDict(**wrappers)
