"""The first lines of a log: what is needed to repeat the run."""

import torch
from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils.environment import describe_environment


@HOOKS.register_module()
class RunHeaderHook(Hook):
    """Logs versions, git state, devices, the config and parameter counts before the run."""

    priority = 'VERY_HIGH'

    def before_train(self, runner):
        model = runner.model
        lines = [f'{name}: {value}' for name, value in describe_environment().items()]
        lines += [f'seed: {runner.seed}', f'work_dir: {runner.work_dir}',
                  f'training images: {len(runner.train_dataloader.dataset)}']
        if runner.resumed is not None:
            place, differences = runner.resumed
            lines += [f'resumed: {place}', *(f'since then: {line}' for line in differences)]
        counts = {'encoder': model.autoencoder.encoder, 'decoder': model.autoencoder.decoder,
                  'discriminator': model.discriminator}
        lines += [f'{name}: {sum(p.numel() for p in network.parameters()) / 1e6:.6g} M parameters'
                  for name, network in counts.items() if network is not None]
        runner.logger.info('\n  '.join(['run', *lines]))
        if model.precision == 'bf16' and not torch.cuda.is_available() and not torch.cpu._is_amx_tile_supported():
            runner.logger.warning("precision='bf16': this CPU has no AMX; without it bf16 took 1.6 times as long as "
                                  'float32 on the machine of docs/benchmarks.md; compare --cfg-options '
                                  'model.precision=fp32')
        runner.logger.info(f'config\n{runner.cfg.pretty_text}')
