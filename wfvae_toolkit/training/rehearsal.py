"""Try both turns and the scores on one made-up picture, before the first iteration.

Without this, two mistakes appear only after hours: a discriminator that is too deep for the crops fails when it starts,
and a crop size that the autoencoder cannot halve fails at the first validation.
"""

import contextlib

import torch

from wfvae_toolkit.datasets import collate_training
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.seeding import seeded

from .passes import gradient_sync


def rehearse(model, train_dataset, val_dataset=None, evaluator=None):
    """Run a model's turns on a picture of the training crop's size, and the scores on one of the validation crop's.

    Weights, buffers, gradients and random generators stay unchanged. A dataset whose pipeline does not end in a crop
    has pictures of any size; it is not rehearsed.

    Raises:
        SettingError: a setting does not fit the pictures; the message names its key.
    """
    with located('train_dataloader.dataset.pipeline'):
        size = _fitting_size(model, train_dataset)
    if size is not None:
        _rehearse_turns(model, size, _first_extras(model, train_dataset))
    if val_dataset is None:
        return
    size = evaluator.protocol.resolution
    if size is None:
        with located('val_dataloader.dataset.pipeline'):
            size = _fitting_size(model, val_dataset)
    elif size % model.autoencoder.downsample_factor:
        size = None  # filled up in the evaluation
    if size is not None:
        with located('val_evaluator.metrics'):
            _rehearse_scores(model, size, evaluator)


def _fitting_size(model, dataset):
    """Edge of a dataset's crops in px, or None."""
    size, factor = dataset.crop_size(), model.autoencoder.downsample_factor
    if size is not None and size % factor:
        raise SettingError(f'crops of {size} px: use a multiple of {factor}, by which the autoencoder shrinks, such as '
                           f'{max(factor, round(size / factor) * factor)}')
    return size


def _first_extras(model, dataset):
    """Extra fields of the first sample, for a batch of one; losses may need them."""
    if not getattr(dataset, 'has_extras', False):
        return {}
    return model.data_preprocessor.extras(collate_training([dataset[0]]).extras)


def _rehearse_turns(model, size, extras):
    pictures = _picture(size)
    # Not compiled: a compiled network would keep code for a batch of one picture.
    with (evaluating(model), seeded(0), torch.compiler.set_stance('force_eager'),
          located(f'model, on crops of {size} px')):
        with gradient_sync(model.network_pass('autoencoder'), last_micro_batch=False):
            model.autoencoder_turn(pictures, sample_seeds=[0], extras=extras)
        if model.discriminator is not None:
            with gradient_sync(model.network_pass('discriminator'), last_micro_batch=False):
                model.discriminator_turn(pictures, sample_seeds=[0], extras=extras)


@contextlib.contextmanager
def evaluating(model):
    """Evaluation mode inside the block: no power iteration and no update of running statistics."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.inference_mode()
def _rehearse_scores(model, size, evaluator):
    picture, autoencoder = _picture(size), model.autoencoder
    try:
        with evaluating(model), seeded(0), torch.compiler.set_stance('force_eager'):
            latent_dist = autoencoder.encode(picture).latent_dist
            latents = latent_dist.mode()
            evaluator.process('', [0], ['a rehearsal'], picture, autoencoder.decode(latents).sample, latents,
                              latent_dist, autoencoder)
    finally:
        evaluator.reset()


def _picture(size):
    """(1, 3, size, size) of noise in [-1, 1]; for a constant picture some scores are not finite."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(1, 3, size, size, generator=generator) * 2 - 1).to(default_device())
