"""Scores of a checkpoint: what ``tools/test.py`` runs."""

from pathlib import Path

import torch

from wfvae_toolkit.checkpoints import read_model_file
from wfvae_toolkit.datasets import build_dataloader, count_images, describe_pipeline, fixed_pipeline
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.registry import EVALUATORS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.errors import located
from wfvae_toolkit.utils.files import printable
from wfvae_toolkit.utils.pixels import from_bytes
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.visualization.pictures import comparison_grid, write_picture

from .channel_maps import write_channel_maps
from .evaluator import write_results
from .kept import KEPT, picture_files, random_images, write_kept
from .run import check_scored, evaluate, reconstruct


def evaluate_checkpoint(cfg, checkpoint, folder, resolution=None, crop=None, max_images=None, max_pictures=KEPT):
    """Score a MODEL on the validation images of a config: its averaged weights and, if it has both, its raw ones.

    The network is built from the config that the MODEL holds; data and metrics come from ``cfg``. The training model,
    its losses and its optimizers are not built.

    Args:
        cfg (Config): ``val_dataloader`` and ``val_evaluator`` are read.
        checkpoint (str | Path): a MODEL, see ``wfvae_toolkit.checkpoints.read_model``.
        folder (str | Path): receives summary.json, metrics.csv, pictures/ of the worst, the best and a random few (of a
            small set: of all), listed in pictures.json, and channels/, the latent channels of up to 16 of them, listed
            in channels.json. Each rank writes its random part of pictures/; rank 0 writes everything else.
        resolution (int): resize the short side to so many px; None: keep the config's pipeline, or only crop.
        crop (int): edge in px of a centre crop; None with a ``resolution``: the same number.
        max_images (int): score only the first images.
        max_pictures (int): how many images get a side-by-side picture at most.

    Returns:
        EvaluationSummary: the same on every rank. Files that could not be read, or that are too small for a metric, are
            in ``skipped``.

    Raises:
        NothingScored: all files were skipped.
    """
    models = read_model_file(checkpoint).models
    # Columns of the averaged weights have no prefix. Where there is one set of weights only, that one has none.
    kinds = sorted(models)  # 'ema' before 'raw'
    names = {'': kinds[0], **{kind: kind for kind in kinds[1:]}}
    main = models[names['']]
    device = default_device()
    autoencoders = {name: models[weights].build().to(device) for name, weights in names.items()}
    loader_cfg = dict(cfg.val_dataloader)
    loader_cfg['dataset'] = dict(loader_cfg['dataset'])
    if resolution is not None or crop is not None:
        loader_cfg['dataset']['pipeline'] = fixed_pipeline(resolution, crop)
    if max_images is not None:
        loader_cfg['max_images'] = max_images
    loader = build_dataloader(loader_cfg, training=False, rank=distributed.rank(), world_size=distributed.world_size())
    with located('val_evaluator'):
        evaluator = EVALUATORS.build(cfg.val_evaluator)
    protocol = {
        'checkpoint': main.path.resolve().name, 'iteration': main.meta.get('iteration'), 'weights': main.weights,
        'precision': 'float32', 'data_root': str(loader_cfg['dataset'].get('data_root')),
        'images_of': len(loader.dataset), 'pipeline': describe_pipeline(loader_cfg['dataset'].get('pipeline', ())),
        'software': describe_environment()['packages']}
    dataset = loader.dataset
    # Paths as the rows of the summary have them.
    count = count_images(dataset, max_images)
    numbers = {printable(dataset.path(index)): index for index in range(count)}
    chosen = random_images(count, max_pictures)
    pictures = _Pictures(Path(folder) / 'pictures', numbers, chosen)
    batches = progress(loader, 'batches scored', len(loader))
    summary = evaluate(autoencoders, batches, evaluator, device, on_batch=pictures, protocol=protocol)
    with located('val_dataloader.dataset'):
        check_scored(summary)
    if distributed.is_main():
        def images_of(path):
            return _pair(autoencoders[''], dataset[numbers[path]].image.to(device))

        def latents_of(path):
            return _latents(autoencoders[''], dataset[numbers[path]].image.to(device))

        write_results(summary, folder)
        kept = write_kept(summary, folder, pictures.names, images_of, pictures.paths, written=True, count=max_pictures)
        write_channel_maps(kept, folder, pictures.names, latents_of)
    return summary


@torch.inference_mode()
def _pair(autoencoder, image):
    """uint8 (3, H, W) -> it and its reconstruction, (1, 3, H, W) in [-1, 1]."""
    target = from_bytes(image[None])
    return target, reconstruct(autoencoder, target)[1]


@torch.inference_mode()
def _latents(autoencoder, image):
    """uint8 (3, H, W) -> the posterior's mean, (1, C, h, w)."""
    target = fit_to_factor(from_bytes(image[None]), autoencoder.downsample_factor, 'pad')
    return autoencoder.encode(target).latent_dist.mode()


class _Pictures:
    """Writes input, reconstruction and error of images that keep a picture whatever their scores are.

    Attributes:
        names (dict[str, str]): path of an image -> name of its picture, of all images.
        paths (list[str]): of the images that get one here, on all ranks.
    """

    def __init__(self, folder, numbers, chosen):
        self.folder, self.chosen, self.names = folder, chosen, picture_files(numbers)
        self.paths = [path for path, number in numbers.items() if number in chosen]

    def __call__(self, number, batch, target, reconstructions):
        for row, (index, name) in enumerate(zip(batch.indices, batch.paths, strict=True)):
            if index in self.chosen:
                path = self.folder / self.names[printable(name)]
                path.parent.mkdir(parents=True, exist_ok=True)
                one = slice(row, row + 1)
                write_picture(comparison_grid(target[one], reconstructions[''][one]), path)
