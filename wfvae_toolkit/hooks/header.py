"""The first lines of a log: what is needed to repeat the run, on one screen."""

from pathlib import Path

import torch
from mmengine.hooks import Hook

from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.training.record import changes, settings_of
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.config import configs_folder, shipped_config
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.files import write_json

SHOWN = 20  # settings that differ; the file has them all


@HOOKS.register_module()
class RunHeaderHook(Hook):
    """Logs versions, git state, devices, parameter counts, and what the config changes, before the run.

    Changes are those to the shipped config that it inherits. The whole config is in the run's folder. The facts go
    into ``run.json``, for ``tools/report.py``.
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
        if model.precision == 'bf16' and default_device().type == 'cpu' and not torch.cpu._is_amx_tile_supported():
            runner.logger.warning("precision='bf16': this CPU has no AMX; without it bf16 took 1.6 times as long as "
                                  'float32 on the machine of docs/benchmarks.md; compare --cfg-options '
                                  'model.precision=fp32')
        runner.logger.info('\n  '.join(describe_config(runner)))


def describe_config(runner):
    """Lines of text: where the whole config is, and what differs from the shipped one."""
    file = runner.cfg.filename
    copy = Path(runner.work_dir) / Path(file).name if file else None
    place = f'config: {copy}' if copy and copy.is_file() else 'config: not from a file'
    paths, shipped = shipped_config(file) if file and Path(file).is_file() else ([], {})
    if not paths:
        return [f'{place}; it inherits no shipped config']
    names = ', '.join(path.relative_to(configs_folder('wfvae_toolkit').resolve()).as_posix() for path in paths)
    found = changes(settings_of(shipped), settings_of(runner.cfg))
    if not found:
        return [f'{place}, as shipped: {names}']
    lines = [f'{place}; it differs from the shipped {names} in',
             *(f'{key}: {_short(before)} -> {_short(now)}' for key, before, now in found[:SHOWN])]
    return lines + ([f'and {len(found) - SHOWN} others'] if len(found) > SHOWN else [])


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
