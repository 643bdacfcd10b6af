"""Prove that a refactoring changes no number: ``python tools/dev/compare_losses.py REV [REV]``.

Trains two commits on made-up pictures through tools/train.py and compares every number that they log.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Time and memory of the machine.
MEASURED = {'seconds_per_iteration', 'images_per_second', 'data_wait_share', 'peak_memory_gib'}
CONFIG = """
_base_ = 'wfvae_toolkit::_base_/runtime.py'
model = dict(
    type='AutoencoderTraining',
    autoencoder=dict(type='WFVAE2Image', latent_channels=4, widths=(8, 16), flow_width=4,
                     mid_blocks=[dict(type='ResidualBlock', dropout=0.1), dict(type='SpatialAttention')]),
    discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8),
    losses=dict(pixel=dict(type='L1Loss'), perceptual=dict(type='STLPIPSLoss'), kl=dict(type='KLLoss', weight=1e-3),
                wavelet=dict(type='WaveletFlowLoss', weight=0.1), adversarial=dict(type='AdversarialLoss'),
                features=dict(type='FeatureMatchingLoss')))
train_cfg = dict(max_iters=ITERATIONS, val_interval=ITERATIONS)
optim_wrapper = dict(autoencoder=dict(optimizer=dict(lr=1e-3)), discriminator=dict(optimizer=dict(lr=1e-3)))
default_hooks = dict(learning_rate=dict(warmup_iters=2), discriminator=dict(start_iter=4), ema=dict(decay=0.9),
                     logger=dict(interval=1), checkpoint=dict(interval=ITERATIONS, save_best=None), curves=None)
visualizer = dict(vis_backends=[])
val_evaluator = dict(metrics=dict(STLPIPS=None, LPIPS=None))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='SyntheticImages', size=48, length=16, pipeline=[dict(type='RandomCrop', size=32), dict(type='RandomFlip')]))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='SyntheticImages', size=32, length=4))
"""
VARIANTS = {
    'alternate': [],
    'joint': ['model.turns=joint', 'train_cfg.accumulation=2', 'model.learn_logvar=True'],
    'normalize': ['model.normalize=True', 'model.losses.adversarial.objective=vanilla',
                  'optim_wrapper.autoencoder.clip_grad=dict(max_norm=1.0)'],
    'bf16': ['model.precision=bf16'],
    'fp16': ['model.precision=fp16', 'model.turns=joint'],
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description='Compare every logged number of two commits.')
    parser.add_argument('revisions', nargs='+', metavar='REV',
                        help='two commits, or one to compare the files here with')
    parser.add_argument('--iterations', type=int, default=12, metavar='N', help='of each training (default: 12)')
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS), metavar='NAME',
                        help=f'trainings to compare: {", ".join(VARIANTS)} (default: all)')
    parser.add_argument('--tolerance', type=float, default=0.0, metavar='R', help='relative; 0 (default): every bit')
    options = parser.parse_args(arguments)
    if len(options.revisions) > 2:
        parser.error('two commits at most')
    different = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        checkouts = [stack.enter_context(checkout(revision, Path(folder) / f'checkout_{number}'))
                     for number, revision in enumerate(options.revisions)]
        checkouts += [ROOT] * (2 - len(checkouts))
        for variant in options.variants:
            logs = [train(path, Path(folder) / f'{variant}_{number}', variant, options.iterations)
                    for number, path in enumerate(checkouts)]
            found = differences(*logs, options.tolerance)
            print(f'{variant}: {sum(map(len, logs[0]))} numbers, {len(found)} differ', *found[:5], sep='\n    ')
            different += len(found)
    if different:
        sys.exit(1)


@contextlib.contextmanager
def checkout(revision, folder):
    """A git worktree of a commit, removed at the end of the block."""
    subprocess.run(['git', '-C', str(ROOT), 'worktree', 'add', '--detach', '-f', str(folder), revision], check=True,
                   capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(['git', '-C', str(ROOT), 'worktree', 'remove', '--force', str(folder)], check=True)


def train(path, folder, variant, iterations):
    """Train with the code of the checkout ``path``; returns the rows of its log, name -> number."""
    folder.mkdir()
    config = folder / 'compared.py'
    config.write_text(CONFIG.replace('ITERATIONS', str(iterations)), encoding='utf-8')
    command = [sys.executable, str(path / 'tools/train.py'), str(config), '--work-dir', str(folder / 'run')]
    if VARIANTS[variant]:
        command += ['--cfg-options', *VARIANTS[variant]]
    environment = {**os.environ, 'PYTHONPATH': str(path)}
    done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f'{path}: {variant}: status {done.returncode}\n{done.stderr[-3000:]}')
    lines = (folder / 'run/log.jsonl').read_text(encoding='utf-8').splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in MEASURED} for line in lines]


def differences(first, second, tolerance):
    """One line per row or number of two logs that differs by more than ``tolerance`` times the larger value."""
    if len(first) != len(second):
        return [f'{len(first)} rows and {len(second)} rows']
    found = []
    for one, other in zip(first, second, strict=True):
        for name in sorted(one.keys() | other.keys()):
            values = one.get(name), other.get(name)
            if values[0] == values[1] or all(value != value for value in values):
                continue
            if None in values or not abs(values[0] - values[1]) <= tolerance * max(map(abs, values)):
                found.append(f'{one["phase"]} {one["iteration"]}: {name} {values[0]!r}, {values[1]!r}')
    return found


if __name__ == '__main__':
    main()
