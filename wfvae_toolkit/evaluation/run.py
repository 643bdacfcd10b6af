"""One pass over a dataset: reconstruct through the posterior's mean and score."""

import torch

from wfvae_toolkit.datasets import PictureCounts
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.utils.distributed import gather
from wfvae_toolkit.utils.errors import UserError
from wfvae_toolkit.utils.finite import check_finite
from wfvae_toolkit.utils.pixels import from_bytes

from .metric import UnfitPicture

_SHOWN = 3  # files in an error


class NothingScored(UserError, RuntimeError):
    """An evaluation in which no image could be scored."""


@torch.inference_mode()
def evaluate(autoencoders, dataloader, evaluator, device, on_batch=None, protocol=None):
    """Score autoencoders on the images of a loader, each of any size.

    Sides that an autoencoder's factor does not divide are padded by reflection on the right and below. The original
    pixels are scored.

    Args:
        autoencoders (dict[str, nn.Module]): name of the weights -> autoencoder; ``''`` is the main one, another
            name prefixes its columns (``raw/PSNR``). They are put in evaluation mode.
        dataloader (DataLoader): of ``build_dataloader(training=False)``; this rank's share of the images.
        evaluator (ReconstructionEvaluator): collects per-image values; reset first.
        device (torch.device): where autoencoders and metrics compute.
        on_batch (callable): called with (number, batch, target, {name: reconstruction}), images in [-1, 1].
        protocol (dict): what the caller knows of the measurement (crop, checkpoint, ...), for the summary.

    Returns:
        EvaluationSummary: of all ranks. Files that are unreadable, or too small for a metric, are in ``skipped``.

    Raises:
        NotFinite: a reconstruction holds NaN or infinity; the message names picture, weights and stage.
    """
    for autoencoder in autoencoders.values():
        autoencoder.eval()
    evaluator.reset()
    counts, filled_up = PictureCounts(), 0
    factor = autoencoders[''].downsample_factor
    for number, batch in enumerate(dataloader):
        counts.add(batch)
        for bad in batch.bad:
            evaluator.skip(bad.path, bad.reason)
        for group in batch.groups():
            target = from_bytes(group.images.to(device))
            filled_up += len(group) * any(side % factor for side in target.shape[-2:])
            reconstructions = {}
            for name, autoencoder in autoencoders.items():
                latent_dist, reconstructions[name] = reconstruct(autoencoder, target)
                latents = latent_dist.mode()
                weights = f' of the {name} weights' if name else ''
                check_finite({f'encoder{weights}': latents, f'decoder{weights}': reconstructions[name]},
                             latents.dtype, group.paths)
                try:
                    evaluator.process(name, group.indices, group.paths, target, reconstructions[name], latents,
                                      latent_dist, autoencoder)
                except UnfitPicture as error:
                    for path in group.paths:
                        evaluator.skip(path, str(error))
            if on_batch is not None:
                on_batch(number, group, target, reconstructions)
    counts, filled_up = counts.of_all_ranks(), sum(gather(filled_up))
    return evaluator.summarize({
        **(protocol or {}), 'latent': "the posterior's mean",
        'sizes': f'sides that {factor} does not divide are filled up by reflection, right and below; scored are the '
                 f'original pixels ({filled_up} of {counts.pictures} pictures)',
        **counts.protocol()})


def reconstruct(autoencoder, target):
    """Images (B, 3, H, W) of any size -> posterior of the filled up images, and reconstructions (B, 3, H, W)."""
    height, width = target.shape[-2:]
    latent_dist = autoencoder.encode(fit_to_factor(target, autoencoder.downsample_factor, 'pad')).latent_dist
    return latent_dist, autoencoder.decode(latent_dist.mode()).sample[..., :height, :width]


def check_scored(summary):
    """NothingScored, which names the first files, if no image of an `EvaluationSummary` was scored."""
    if not summary.images:
        first = '; '.join(f'{bad["path"]}: {bad["reason"]}' for bad in summary.skipped[:_SHOWN])
        raise NothingScored(f'none of the {len(summary.skipped)} pictures could be scored; {first}')
