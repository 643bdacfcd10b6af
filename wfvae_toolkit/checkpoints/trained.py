"""A trained autoencoder in any of the forms that users have."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from wfvae_toolkit.models.latents import LatentStatistics

from .native import build_autoencoder, load_training_checkpoint, resolve_checkpoint, select_weights
from .statistics import native_statistics


@dataclass
class TrainedModel:
    """All that building, using or converting a trained autoencoder needs; nothing of it is built yet.

    Args:
        config (dict): AUTOENCODERS config, plain data.
        state (dict[str, Tensor]): weights under our key names, on the CPU.
        statistics (LatentStatistics): of its latents; None: never measured.
        path (Path): the file or folder that was read.
        form (str): ``'native'``, ``'diffusers'``, ``'earlier checkpoint'`` or ``'earlier folder'``.
        weights (str): ``'ema'`` or ``'raw'``; a form without the distinction has ``'ema'``.
        meta (dict): what else the form says, such as ``iteration``.
    """

    config: dict
    state: dict[str, torch.Tensor]
    statistics: LatentStatistics | None
    path: Path
    form: str
    weights: str
    meta: dict = field(default_factory=dict)

    def build(self):
        """The autoencoder, filled strictly, in evaluation mode on the CPU. CheckpointError if anything does not fit."""
        return build_autoencoder(self.config, self.state, self.path, self.weights)


def read_model(path, weights='ema'):
    """Recognise and read a MODEL without executing anything in it.

    Args:
        path (str | Path): a run's folder (its newest good checkpoint), a native checkpoint, an exported diffusers
            folder, an earlier ``.ckpt`` beside its ``config.json``, or an earlier exported folder.
        weights (str): ``'ema'`` or ``'raw'``.

    Returns:
        TrainedModel

    Raises:
        CheckpointError: not a MODEL, damaged, unsafe, or without these weights; the message names path and reason.
    """
    path = resolve_checkpoint(path)
    content = load_training_checkpoint(path)
    config, state = select_weights(content, path, weights)
    return TrainedModel(config, state, native_statistics(content['meta'], path), path, 'native', weights,
                        {'iteration': content['meta'].get('iteration')})
