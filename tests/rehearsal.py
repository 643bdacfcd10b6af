"""Training and tools on the accelerator of tests/accelerator.py: what waits for it, and what differs from the CPU.

``python -m tests.rehearsal PHOTOS FOLDER [--ablations]`` prints both, and writes them to FOLDER/rehearsal.json. It is a
process of its own, because torch's backward pass learns once, when it first runs, which devices there are.
"""

import argparse
import json
from pathlib import Path

import torch

from tests.accelerator import NAME, accelerator
from tests.gpu.models import ABLATIONS, CONFIGS, SHIPPED, build_model
from tests.helpers import build_small, load_module, noise, trained_small
from wfvae_toolkit.checkpoints import load_training_checkpoint
from wfvae_toolkit.datasets import fixed_pipeline, open_images
from wfvae_toolkit.datasets.loader import Batch
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CacheSettings, LatentCache
from wfvae_toolkit.latents.measure import measure_latents
from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.device import default_device

ROOT = Path(__file__).resolve().parents[1]
# On a CPU attention is one kernel, which no other device has: without it both compute the same bits.
MID_BLOCKS = [dict(type='ResidualBlock')]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('photos', type=Path)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--ablations', action='store_true', help='only updates: of every ablation, and in fp16')
    options = parser.parse_args()
    if options.ablations:
        found = {'updates': {path.stem: update_both_networks(path) for path in ABLATIONS},
                 'fp16': update_both_networks(CONFIGS / 'wfvae2_demo.py', 'fp16')}
    else:
        found = {'updates': {path.stem: update_both_networks(path) for path in different(SHIPPED)},
                 'run': run(options.photos, options.folder),
                 'tools': {kind: tools(options.photos, options.folder / kind, kind == 'float64')
                           for kind in ('float64', 'no float64')}}
    for name, part in found.items():
        print(f'{name}: {json.dumps(part, indent=2)}')
    (options.folder / 'rehearsal.json').write_text(json.dumps(found), encoding='utf-8')


def different(paths):
    """Paths of the first config with each model."""
    models = {}
    for path in paths:
        models.setdefault(str(load_config(path).model), path)
    return list(models.values())


def update_both_networks(path, precision=None):
    """One update of each network of a narrow model -> places that wait for the device, with counts.

    RuntimeError: tensors of two devices.
    """
    cfg = load_config(path)
    with accelerator() as mode:
        model = build_model(path, small=True, precision=precision or cfg.model.get('precision', 'fp32'))
        model.to(default_device())
        row = cfg.optim_wrapper
        optimizers = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=row.constructor, optim_wrapper_cfg=row))(model)
        images = (noise(2, 3, 64, 64).mul_(0.3).clamp_(-1, 1) + 1).mul_(127.5).round_().to(torch.uint8)
        batch = Batch(images.pin_memory(), ['0.png', '1.png'], [0, 1], [0, 1], [0, 1], bad=[], upsampled=0)
        mode.waits.clear()
        for iteration in range(2):
            update = model.train_step([batch], optimizers, model.turns_of(iteration))
            assert update.skipped is None or precision == 'fp16'
            assert {value.device.type for value in update.log.values()} == {NAME}
        return named(mode.waits)


def named(waits):
    return {f'{place}: {what}': count for (place, what), count in sorted(waits.items())}


def run(photos, folder):
    """A whole run, resumed once -> its waits, and the weights that differ from the CPU's run."""
    train = load_module(ROOT / 'tools/train.py').main

    def start(name, iterations, *arguments):
        options = {'train_cfg.max_iters': iterations, 'train_cfg.val_interval': 3, 'default_hooks.curves': None,
                   'default_hooks.checkpoint.interval': 3, 'model.autoencoder.mid_blocks': MID_BLOCKS,
                   'train_dataloader.dataset.data_root': str(photos / 'train'),
                   'val_dataloader.dataset.data_root': str(photos / 'val'),
                   'experiment_name': f'{name}_{iterations}'}
        train([str(ROOT / 'tests/data/configs/tiny.py'), '--work-dir', str(folder / name), *arguments,
               '--cfg-options', *(f'{key}={value!r}' for key, value in options.items())])

    with accelerator() as mode:
        start('here', 3)
        start('here', 4, '--resume')
        waits = named(mode.waits)
        mode.waits.clear()
        start('cpu', 3, '--device', 'cpu')
        waits_of_cpu = named(mode.waits)
    ours, cpu = (load_training_checkpoint(folder / name / 'iter_3.pth') for name in ('here', 'cpu'))
    return {'waits': waits, 'waits with --device cpu': waits_of_cpu,
            'different': [name for part in ('state_dict', 'ema_state_dict') for name in cpu[part]
                          if not torch.equal(ours[part][name], cpu[part][name])]}


def tools(photos, folder, float64):
    """Encode, decode in tiles, measure and cache latents -> names of what differs from the CPU's."""
    with accelerator(float64):
        here, cpu = (Reconstructor(build_small(mid_blocks=MID_BLOCKS), device=name) for name in (None, 'cpu'))
        assert here.device.type == NAME
        picture = next((photos / 'val').iterdir())
        latents = here.encode(picture)
        same = {'latents': torch.equal(latents.cpu(), cpu.encode(picture))}
        for model in (here, cpu):
            model.autoencoder.enable_tiling(tile=16)
        same['tiles'] = torch.equal(here.decode(latents).cpu(), cpu.decode(latents.cpu()))
        data, pipeline = photos / 'train', fixed_pipeline(16)
        measured = [measure_latents(model, open_images(data, pipeline)) for model in (here, cpu)]
        same['statistics'] = measured[0] == measured[1]
        shards = []
        for number, model in enumerate((here, cpu)):
            LatentCache(trained_small(mid_blocks=MID_BLOCKS), model, open_images(data, pipeline), pipeline, 16,
                        folder / str(number), CacheSettings(what='sample', shard_size=16), None, str(data)).fill()
            shards += [path.read_bytes() for path in (folder / str(number)).glob('shard_*')]
        same['cache'] = len(shards) == 2 and shards[0] == shards[1]
    return [name for name, equal in same.items() if not equal]


if __name__ == '__main__':
    main()
