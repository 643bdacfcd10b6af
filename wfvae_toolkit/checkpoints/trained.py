"""A trained autoencoder as it was read from a file or folder, and how it is built."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.registry import AUTOENCODERS, unregistered_types
from wfvae_toolkit.utils.errors import UserError
from wfvae_toolkit.utils.finite import all_finite


class CheckpointError(UserError, RuntimeError):
    """A file that is not a whole and safe checkpoint of the expected kind.

    The message names the file and the reason.
    """


@dataclass
class TrainedModel:
    """All that it takes to build, use or convert a trained autoencoder; nothing is built yet.

    Args:
        config (dict): AUTOENCODERS config, plain data.
        state (dict[str, Tensor]): weights under our key names, on the CPU.
        statistics (LatentStatistics): of its latents; None: never measured.
        path (Path): the file or folder that was read.
        form (str): ``'native'``, ``'inference'``, ``'diffusers'``, ``'earlier checkpoint'``, ``'earlier folder'`` or
            ``'ldm'``.
        weights (str): ``'ema'`` or ``'raw'``; a form without the distinction has ``'ema'``.
        meta (dict): what else the form says, such as ``iteration``, and of a training checkpoint ``run``, the record
            of ``training.record.describe_run``; ``largest_activations`` if they were measured
            (see ``models.activations``; ``images`` is the number of images). Earlier forms add ``class`` and, if the
            averaged weights held the decoder only, ``encoder_from='gen_model'``.
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
        model = build_autoencoder(self.config, self.state, self.path, self.weights)
        if self.statistics is not None and len(self.statistics.mean) != model.latent_channels:
            raise CheckpointError(f'{self.path}: statistics of {len(self.statistics.mean)} latent channels for a '
                                  f'model of {model.latent_channels}')
        return model


@dataclass
class ModelFile:
    """All that the file or folder of a MODEL holds: each set of weights, and what stands beside the autoencoder.

    Args:
        models (dict[str, TrainedModel]): by ``'ema'`` and ``'raw'``, at least one.
        others (dict[str, Tensor]): tensors of the training model outside its autoencoder, by name, such as
            ``discriminator.*``. Only native training checkpoints have them.
    """

    models: dict[str, TrainedModel]
    others: dict[str, torch.Tensor] = field(default_factory=dict)

    def select(self, weights='ema'):
        """The TrainedModel with these weights. CheckpointError if they are not there.

        Raw weights are taken for ``'ema'`` in two cases: an inference checkpoint that was made of raw weights, and an
        earlier training that kept no average.
        """
        if weights in self.models:
            return self.models[weights]
        only = next(iter(self.models.values()))
        if weights == 'ema' and only.form in ('inference', 'earlier checkpoint'):
            return only
        raise CheckpointError(f'{only.path}: has no {weights} weights, only {", ".join(self.models)}')

    def checked(self):
        """The same; CheckpointError if a config is no dict or names a type that is not registered."""
        for model in self.models.values():
            if not isinstance(model.config, dict):
                raise CheckpointError(f'{model.path}: its config is not a dict, but {model.config!r}')
            check_registered(model.config, model.path)
        return self


def build_autoencoder(config, state, path, weights):
    """Autoencoder of a config that came from a file, with all its weights loaded, in evaluation mode.

    Raises:
        CheckpointError: an unknown part, weights that are not finite, or weights and config that do not fit.
    """
    check_registered(config, path)
    check_weights(state, path)
    try:
        autoencoder = AUTOENCODERS.build(config)
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f'{path}: its config builds no autoencoder: {error}') from None
    try:
        autoencoder.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f'{path}: {weights} weights do not fit its own config: {error}') from None
    return autoencoder.eval()


def check_registered(config, path):
    """CheckpointError unless every ``type`` in a config that came from a file is a registered name."""
    for name in unregistered_types(config):
        raise CheckpointError(f'{path}: its config names type {name!r}, which no registry holds; import the plug-in '
                              'that registers it first (tools take --import MODULE)')


def check_weights(state, path):
    """CheckpointError for weights (name -> tensor) that are NaN or infinite; the message names the first."""
    bad = [name for name, value in state.items() if value.is_floating_point() and not all_finite(value)]
    if bad:
        raise CheckpointError(f'{path}: {len(bad)} of its {len(state)} weights hold NaN or infinity, the first is '
                              f'{bad[0]}; take another checkpoint of the training')
