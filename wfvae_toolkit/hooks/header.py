"""The first lines of a log: what is needed to repeat the run."""

from pathlib import Path

import torch
from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.files import write_json


@HOOKS.register_module()
class RunHeaderHook(Hook):
    """Logs versions, git state, devices, the config and parameter counts before the run.

    The same facts go into ``run.json``, for ``tools/report.py``.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner):
        model = runner.model
        environment, images = describe_environment(), len(runner.train_dataloader.dataset)
        lines = [f'{name}: {value}' for name, value in environment.items()]
        lines += [f'seed: {runner.seed}', f'work_dir: {runner.work_dir}', f'training images: {images}']
        if runner.resumed is not None:
            place, differences = runner.resumed
            lines += [f'resumed: {place}', *(f'since then: {line}' for line in differences)]
        networks = {'encoder': model.autoencoder.encoder, 'decoder': model.autoencoder.decoder,
                    'discriminator': model.discriminator}
        counts = {name: sum(p.numel() for p in network.parameters())
                  for name, network in networks.items() if network is not None}
        lines += [f'{name}: {count / 1e6:.6g} M parameters' for name, count in counts.items()]
        if distributed.is_main():
            write_json(Path(runner.work_dir) / 'run.json', {
                'environment': environment, 'seed': runner.seed, 'training_images': images, 'parameters': counts})
        runner.logger.info('\n  '.join(['run', *lines]))
        if model.precision == 'bf16' and not torch.cuda.is_available() and not torch.cpu._is_amx_tile_supported():
            runner.logger.warning("precision='bf16': this CPU has no AMX; without it bf16 took 1.6 times as long as "
                                  'float32 on the machine of docs/benchmarks.md; compare --cfg-options '
                                  'model.precision=fp32')
        runner.logger.info(f'config\n{runner.cfg.pretty_text}')
