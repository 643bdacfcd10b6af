"""Scores of a checkpoint: what ``tools/test.py`` runs."""

from dataclasses import replace
from pathlib import Path

import torch

from wfvae_toolkit.checkpoints import read_model_file
from wfvae_toolkit.datasets import count_images, fixed_pipeline
from wfvae_toolkit.models.sizes import fit_to_factor
from wfvae_toolkit.registry import EVALUATORS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.files import printable
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.urls import shown_url
from wfvae_toolkit.visualization.pictures import comparison_grid, write_picture

from .channel_maps import write_channel_maps
from .evaluator import write_results
from .kept import KEPT, picture_files, random_images, write_kept
from .protocols import OURS, find_protocol
from .run import build_evaluation_data, check_scored, evaluate_protocols, reconstruct_all, target_of


def evaluate_checkpoint(cfg, checkpoint, folder, resolution=None, crop=None, max_images=None, max_pictures=KEPT,
                        protocols=()):
    """Score a MODEL on the validation images of a config: its averaged weights and, if it has both, its raw ones.

    The network is built from the config that the MODEL holds; data and metrics come from ``cfg``. The training model,
    its losses and its optimizers are not built.

    Args:
        cfg (Config): ``val_dataloader`` and ``val_evaluator`` are read.
        checkpoint (str | Path): a MODEL, see ``wfvae_toolkit.checkpoints.read_model``.
        folder (str | Path): receives summary.json, metrics.csv, pictures/ of the worst, the best and a random few (of a
            small set: of all), listed in pictures.json, and channels/, the latent channels of up to 16 of them, listed
            in channels.json. Each rank writes its random part of pictures/; rank 0 writes everything else. Several
            protocols have a folder in it each.
        resolution (int): resize the short side to so many px; None: keep the config's pipeline, or only crop. Of
            another protocol than 'ours': the edge of its square.
        crop (int): edge in px of a centre crop; None with a ``resolution``: the same number.
        max_images (int): score only the first images.
        max_pictures (int): how many images get a side-by-side picture at most.
        protocols (Sequence[str]): names of protocols, all scored in one pass; empty: the one of ``val_evaluator``.

    Returns:
        dict[Path, EvaluationSummary]: by the folder of the results; the same on every rank. Files that could not be
            read, or that are too small for a metric, are in ``skipped``.

    Raises:
        NothingScored: all files were skipped.
        SettingError: a crop with a protocol that makes its own squares.
    """
    models = read_model_file(checkpoint).models
    # Columns of the averaged weights have no prefix. Where there is one set of weights only, that one has none.
    kinds = sorted(models)  # 'ema' before 'raw'
    names = {'': kinds[0], **{kind: kind for kind in kinds[1:]}}
    main = models[names['']]
    device = default_device()
    autoencoders = {name: models[weights].build().to(device) for name, weights in names.items()}
    evaluators = build_evaluators(cfg.val_evaluator, protocols, resolution, crop)
    settings = _loader_settings(cfg.val_dataloader, resolution, crop, max_images)
    data = build_evaluation_data(settings, evaluators)
    folders = folders_of(folder, evaluators)
    # Paths as the rows of the summary have them.
    count = count_images(data.dataset, max_images)
    numbers = {printable(data.dataset.path(index)): index for index in range(count)}
    chosen = random_images(count, max_pictures)
    pictures = {name: _Pictures(place / 'pictures', numbers, chosen) for name, place in folders.items()}
    summaries = evaluate_protocols(
        autoencoders, replace(data, loader=progress(data.loader, 'batches scored', len(data.loader))), evaluators,
        device, on_batch=lambda name, *batch: pictures[name](*batch), protocol={
            'checkpoint': main.path.resolve().name, 'iteration': main.meta.get('iteration'), 'weights': main.weights,
            'model': main.config['type'], 'parameters': _parameters(autoencoders['']),
            'precision': 'float32', 'data_root': str(shown_url(settings['dataset'].get('data_root'))),
            'images_of': len(data.dataset), 'software': describe_environment()['packages']})
    for name, summary in summaries.items():
        with located('val_dataloader.dataset'):
            check_scored(summary)
        if distributed.is_main():
            def image_of(path, preparation=data.plan.preparations[name]):
                return target_of(data.dataset[numbers[path]], preparation, device)

            _write(summary, folders[name], pictures[name], image_of, autoencoders[''],
                   evaluators[name].protocol.latent, max_pictures)
    return {folders[name]: summary for name, summary in summaries.items()}


def _parameters(autoencoder):
    """'encoder 1.18 M, decoder 1.66 M'"""
    halves = {name: getattr(autoencoder, name) for name in ('encoder', 'decoder')}
    return ', '.join(f'{name} {sum(parameter.numel() for parameter in half.parameters()) / 1e6:.3g} M'
                     for name, half in halves.items())


def build_evaluators(cfg, protocols=(), resolution=None, crop=None):
    """Config of an evaluator -> {name of a protocol: ReconstructionEvaluator}; see `evaluate_checkpoint`."""
    with located('val_evaluator'):
        evaluators = {}
        for name in protocols or [cfg.get('protocol', OURS)]:
            own = find_protocol(name).preparation is not None
            if own and crop is not None:
                raise SettingError(f'--crop {crop}: the protocol {name} crops its own squares; --resolution sets their '
                                   'size')
            settings = {'protocol': name} if protocols else {}
            evaluators[name] = EVALUATORS.build({**cfg, **settings, **({'resolution': resolution} if own and resolution
                                                                       else {})})
        return evaluators


def folders_of(folder, evaluators):
    """{name: folder of its results}: a folder each if there are several."""
    return {name: Path(folder) / name if len(evaluators) > 1 else Path(folder) for name in evaluators}


def _loader_settings(cfg, resolution, crop, max_images):
    """Settings of a loader with the pipeline, and the number of images, that were asked for."""
    cfg = {**cfg, 'dataset': dict(cfg['dataset'])}
    if resolution is not None or crop is not None:
        cfg['dataset']['pipeline'] = fixed_pipeline(resolution, crop)
    if max_images is not None:
        cfg['max_images'] = max_images
    return cfg


def _write(summary, folder, pictures, target_of, autoencoder, latent, max_pictures):
    """Write the files of a summary; ``target_of``: path of a row -> image, (1, 3, H, W) in [-1, 1]."""
    def pair(path):
        target = target_of(path)
        return target, reconstruct_all({'': autoencoder}, target, [path], latent)[''][1]

    write_results(summary, folder)
    kept = write_kept(summary, folder, pictures.names, pair, pictures.paths, written=True, count=max_pictures)
    write_channel_maps(kept, folder, pictures.names, lambda path: _latents(autoencoder, target_of(path)))


@torch.inference_mode()
def _latents(autoencoder, target):
    """An image (1, 3, H, W) in [-1, 1] -> the posterior's mean, (1, C, h, w)."""
    return autoencoder.encode(fit_to_factor(target, autoencoder.downsample_factor, 'pad')).latent_dist.mode()


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
