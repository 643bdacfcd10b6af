"""One pass over a dataset: reconstruct through the posterior's mean and score."""

import torch

from wfvae_toolkit.utils.finite import check_finite


@torch.inference_mode()
def evaluate(autoencoders, dataloader, evaluator, device, on_batch=None, protocol=None):
    """Score autoencoders on the images of a loader.

    Args:
        autoencoders (dict[str, nn.Module]): name of the weights -> autoencoder; ``''`` is the main one, another
            name prefixes its columns (``raw/PSNR``). They are put in evaluation mode.
        dataloader (DataLoader): of ``build_dataloader(training=False)``; this rank's share of the images.
        evaluator (ReconstructionEvaluator): collects per-image values; reset first.
        device (torch.device): where autoencoders and metrics compute.
        on_batch (callable): called with (number, batch, target, {name: reconstruction}), images in [-1, 1].
        protocol (dict): what the caller knows of the measurement (crop, checkpoint, ...), for the summary.

    Returns:
        EvaluationSummary: of all ranks. Unreadable files are in ``skipped``.

    Raises:
        NotFinite: a reconstruction holds NaN or infinity; the message names picture, weights and stage.
    """
    for autoencoder in autoencoders.values():
        autoencoder.eval()
    evaluator.reset()
    for number, batch in enumerate(dataloader):
        for bad in batch.bad:
            evaluator.skip(bad.path, bad.reason)
        for group in batch.groups():
            target = group.images.to(device).to(torch.float32).div_(127.5).sub_(1.0)
            reconstructions = {}
            for name, autoencoder in autoencoders.items():
                latent_dist = autoencoder.encode(target).latent_dist
                latents = latent_dist.mode()
                reconstructions[name] = autoencoder.decode(latents).sample
                weights = f' of the {name} weights' if name else ''
                check_finite({f'encoder{weights}': latents, f'decoder{weights}': reconstructions[name]},
                             latents.dtype, group.paths)
                evaluator.process(name, group.indices, group.paths, target, reconstructions[name], latents,
                                  latent_dist, autoencoder)
            if on_batch is not None:
                on_batch(number, group, target, reconstructions)
    return evaluator.summarize({**(protocol or {}), 'latent': "the posterior's mean"})
