"""Save an update that was not finite, and replay it."""

from dataclasses import fields
from pathlib import Path

import torch

from wfvae_toolkit.checkpoints import load_training_checkpoint, save_training_checkpoint
from wfvae_toolkit.datasets.loader import Batch
from wfvae_toolkit.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.files import atomic_write
from wfvae_toolkit.utils.seeding import mix_seed


def save_post_mortem(runner, iteration, update, micro_batches):
    """Write ``non_finite_iter_N/``: ``checkpoint.pth`` and each rank's micro-batches; returns the folder.

    The batches keep images, paths, indices, positions and seeds. The update's log, with the value of every loss term,
    is saved with them. All ranks call it.
    """
    folder = Path(runner.work_dir) / f'non_finite_iter_{iteration}'
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = runner.state(iteration)
    if distributed.is_main():
        save_training_checkpoint(checkpoint, folder / 'checkpoint.pth', runner.model.autoencoder_config)
    names = [field.name for field in fields(Batch) if field.name != 'bad']
    model = runner.model
    with atomic_write(folder / f'batch_rank_{distributed.rank()}.pth') as file:
        torch.save({'turns': update.turns, 'term': update.skipped, 'log': update.log,
                    'discriminator_started': model.discriminator_started,
                    'iteration_seed': mix_seed('iteration', runner.seed, iteration, distributed.rank()),
                    'micro_batches': [{name: getattr(batch, name) for name in names} for batch in micro_batches]}, file)
    distributed.barrier()
    return folder


def replay(cfg, folder, rank=0):
    """Repeat the update of ``save_post_mortem`` on one process.

    Args:
        cfg (Config): of the run, as of ``load_config``.
        folder (str | Path): ``non_finite_iter_N``.
        rank (int): of the images to use.

    Returns:
        Update: its ``log`` holds every term, ``skipped`` the first that is not finite.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    folder = Path(folder)
    model = MODELS.build(cfg.model).to(default_device()).train()
    optimizers = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(
        type=cfg.optim_wrapper.constructor, optim_wrapper_cfg=cfg.optim_wrapper))(model)
    checkpoint = load_training_checkpoint(folder / 'checkpoint.pth')
    model.load_state_dict(checkpoint['state_dict'])
    for turn, state in checkpoint['optimizers'].items():
        optimizers[turn].load_state_dict(state)
    kept = torch.load(folder / f'batch_rank_{rank}.pth', weights_only=True)
    model.discriminator_started = kept['discriminator_started']
    torch.manual_seed(kept['iteration_seed'])
    batches = [Batch(**batch, bad=[]) for batch in kept['micro_batches']]
    return model.train_step(batches, optimizers, kept['turns'])
