import errno
import logging
from types import SimpleNamespace

import pytest
import torch

from wfvae_toolkit.evaluation import Metric, ReconstructionEvaluator
from wfvae_toolkit.hooks import CheckpointHook


class Blur(Metric):
    """A plug-in's metric of two columns, each with a direction of its own."""

    higher_is_better = {'width': False, 'contrast': True}
    description = 'how blurred'

    def measure(self, batch):
        return {'width': batch.target.mean((1, 2, 3)), 'contrast': batch.target.mean((1, 2, 3))}


class Size(Metric):
    higher_is_better = None
    description = 'how large'


@pytest.fixture
def start_checkpoints(tmp_path):
    """CheckpointHook and a stand-in for the Runner, which gives the checkpoint of an iteration."""
    def make(max_iters=10, **settings):
        hook = CheckpointHook(**settings)

        def state(iteration):
            checkpoint = {'meta': {'iteration': iteration}, 'state_dict': {'weight': torch.full((3,), iteration)}}
            hook.before_save_checkpoint(runner, checkpoint)
            return checkpoint

        evaluator = ReconstructionEvaluator(dict(PSNR=dict(type='PSNR'), SSIM=dict(type='SSIM'), blur=dict(type=Blur),
                                                 size=dict(type=Size), turned=dict(type='RotationEquivariance')))
        runner = SimpleNamespace(work_dir=str(tmp_path), max_iters=max_iters, iter=0, state=state, hooks=[hook],
                                 train_loop=SimpleNamespace(consumed=0, early_stop=None), in_training=True,
                                 averaged_autoencoder=1,
                                 val_loop=SimpleNamespace(evaluator=evaluator, summary=SimpleNamespace(metrics={})),
                                 logger=logging.getLogger('test'), model=SimpleNamespace(
                                     autoencoder_config=dict(type='WFVAE2Image', widths=(8, 16))))
        hook.before_run(runner)
        return hook, runner
    return make


@pytest.fixture
def disk(monkeypatch):
    """``disk.full = True`` makes torch.save fail half-way."""
    switch, save = SimpleNamespace(full=False), torch.save

    def write(checkpoint, file):
        if switch.full:
            file.write(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device')
        save(checkpoint, file)

    monkeypatch.setattr(torch, 'save', write)
    return switch
