"""Try both turns and the scores on one made-up picture, before the first iteration.

Without this, two mistakes appear only after hours: a discriminator that is too deep for the crops fails when it starts,
and a crop size that the autoencoder cannot halve fails at the first validation.
"""

import contextlib
import math

import torch

from wfvae_toolkit.datasets import collate_training
from wfvae_toolkit.datasets.base import crop_sizes
from wfvae_toolkit.datasets.loader import set_size
from wfvae_toolkit.models.sizes import size_text
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.seeding import seeded

from .passes import gradient_sync


def rehearse(model, train_dataset, val_dataset=None, evaluator=None, sizes=()):
    """Run a model's turns on a picture of the training crop's size, and the scores on one of the validation crop's.

    Weights, buffers, gradients and random generators stay unchanged. A dataset whose pipeline does not end in a crop
    has pictures of any size; it is not rehearsed.

    Args:
        model (AutoencoderTraining): the model.
        train_dataset, val_dataset (ImageDataset): the pictures.
        evaluator (ReconstructionEvaluator): the scores.
        sizes (sequence of int): the sizes in px that the training pictures go through; the first one is set at the end.

    Raises:
        SettingError: a setting does not fit the pictures; the message names its key.
    """
    for size in sizes[::-1] or [None]:
        if size is not None:
            with located('train_cfg.stages'):
                set_size(train_dataset, size)
        _rehearse_training(model, train_dataset)
    if val_dataset is None:
        return
    size = evaluator.protocol.resolution
    if size is None:
        with located('val_dataloader.dataset.pipeline'):
            sizes = _fitting_sizes(model, val_dataset)
    else:
        sizes = [] if size % model.autoencoder.downsample_factor else [(size, size)]  # filled up in the evaluation
    for size in sizes:
        with located('val_evaluator.metrics'):
            _rehearse_scores(model, size, evaluator)


def _rehearse_training(model, train_dataset):
    with located('train_dataloader.dataset.pipeline'):
        sizes = _fitting_sizes(model, train_dataset)
    if sizes and getattr(train_dataset, 'has_extras', False):
        _rehearse_turns(model, *_first_extras(model, train_dataset))
    else:
        for size in sizes:
            _rehearse_turns(model, size, {})


def _fitting_sizes(model, dataset):
    """(height, width) in px of the crops of a dataset that are tried: that of the shortest side, and the largest."""
    factor = model.autoencoder.downsample_factor
    sizes = crop_sizes(dataset)
    for size in sizes:
        wrong = next((side for side in size if side % factor), None)
        if wrong is not None:
            raise SettingError(f'crops of {size_text(size)} px: use a multiple of {factor}, by which the autoencoder '
                               f'shrinks, such as {max(factor, round(wrong / factor) * factor)}')
    return sorted({min(sizes, key=min), max(sizes, key=math.prod)}) if sizes else []


def _first_extras(model, dataset):
    """Size and extra fields of the first sample, for a batch of one; losses may need them."""
    batch = collate_training([dataset[0]])
    return tuple(batch.images.shape[2:]), model.data_preprocessor.extras(batch.extras)


def _rehearse_turns(model, size, extras):
    pictures = _picture(size)
    # Not compiled: a compiled network would keep code for a batch of one picture.
    with (evaluating(model), seeded(0), torch.compiler.set_stance('force_eager'),
          located(f'model, on crops of {size_text(size)} px')):
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
    """(1, 3, *size) of noise in [-1, 1]; for a constant picture some scores are not finite."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(1, 3, *size, generator=generator) * 2 - 1).to(default_device())
