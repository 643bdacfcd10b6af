"""Codes that are not trained networks, each with as many values as an autoencoder's latents, to compare it with.

| name | what stays of a picture |
| --- | --- |
| ``pca`` | principal components of blocks of f x f px: the best linear code of the training pictures |
| ``bicubic`` | the picture, reduced and enlarged again by Pillow's bicubic filter |
| ``jpeg``, ``webp`` | Pillow's file of the best quality that is no larger than the latents at 8 bits a value |
"""

import io
import math

import numpy as np
import torch
from PIL import Image

from wfvae_toolkit.datasets import describe_pipeline, fixed_pipeline
from wfvae_toolkit.evaluation import write_results
from wfvae_toolkit.evaluation.kept import picture_files, random_images, write_kept
from wfvae_toolkit.registry import AUTOENCODERS, DATASETS, EVALUATORS
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.pixels import from_bytes, to_bytes
from wfvae_toolkit.utils.progress import progress

from .linear_code import LinearCode, draw_pictures

FORMATS = {'jpeg': ('JPEG', dict(optimize=True)), 'webp': ('WEBP', dict(method=6))}
NAMES = ('pca', 'bicubic', *FORMATS)


def make_code(name, channels, factor, train=None):
    """A function: PIL image, mode RGB -> what the code leaves of it, of the same size.

    Args:
        name (str): one of `NAMES`.
        channels, factor (int): of the autoencoder to compare with; its latents have
            ``channels * width * height / factor**2`` values.
        train (Tensor): (N, 3, H, W) in [-1, 1] to which ``pca`` is fitted; ``factor`` divides H and W.

    Raises:
        SettingError: an unknown name.
    """
    if name == 'pca':
        code = LinearCode(train, channels, factor)
        return lambda picture: _to_picture(code.decode(code.encode(_to_tensor(picture))))
    if name == 'bicubic':
        return lambda picture: reduce_and_enlarge(picture, _values(picture, channels, factor))
    if name in FORMATS:
        return lambda picture: _decoded(fit_bytes(picture, *FORMATS[name], limit=_values(picture, channels, factor)))
    raise SettingError(f'{name!r}: the codes are {", ".join(NAMES)}')


def reduce_and_enlarge(picture, values):
    """PIL image -> the same size, of a copy that has at most ``values`` numbers, three a pixel."""
    scale = math.sqrt(values / (3 * picture.width * picture.height))
    small = [max(1, int(scale * side)) for side in picture.size]
    return picture.resize(small, Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.BICUBIC)


def fit_bytes(picture, form, options, limit):
    """The file of Pillow's best quality, 1 to 100, that has at most ``limit`` bytes.

    Raises:
        SettingError: the lowest quality needs more bytes.
    """
    low, high = 1, 100
    best = _file(picture, form, options, low)
    if len(best) > limit:
        raise SettingError(f'{picture.width}x{picture.height} px as {form} take {len(best)} bytes at the lowest '
                           f'quality; the latents have {limit}')
    while low < high:  # `best` is the file of quality `low`
        middle = (low + high + 1) // 2
        file = _file(picture, form, options, middle)
        if len(file) <= limit:
            low, best = middle, file
        else:
            high = middle - 1
    return best


def measure_code(cfg, name, resolution, folder, train_pictures=200):
    """Score a code on the validation pictures of a config, with the config's metrics.

    Args:
        cfg (Config): data, metrics and the autoencoder that the code is compared with.
        name (str): one of `NAMES`.
        resolution (int): px; the short side is resized and the centre cropped.
        folder (Path): receives what tools/test.py writes for a network.
        train_pictures (int): drawn training pictures to which ``pca`` is fitted.

    Returns:
        EvaluationSummary
    """
    autoencoder = AUTOENCODERS.build(cfg.model.autoencoder)
    channels, factor = autoencoder.latent_channels, autoencoder.downsample_factor
    if resolution % factor:
        raise SettingError(f'{resolution} px: use a multiple of {factor}, by which the autoencoder shrinks')
    pipeline = fixed_pipeline(resolution)
    train = None
    if name == 'pca':
        train = draw_pictures({**cfg.train_dataloader.dataset, 'pipeline': pipeline}, train_pictures,
                              cfg.randomness.seed)
    code = make_code(name, channels, factor, train)
    dataset = DATASETS.build({**cfg.val_dataloader.dataset, 'pipeline': pipeline})
    names = [dataset.path(index) for index in range(len(dataset))]
    files = picture_files(names)

    def images_of(path):
        picture = Image.fromarray(dataset[names.index(path)].image.permute(1, 2, 0).contiguous().numpy())
        return _to_tensor(picture), _to_tensor(code(picture))

    with located('val_evaluator'):
        evaluator = EVALUATORS.build(cfg.val_evaluator)
    for index, path in enumerate(progress(names, 'pictures coded', len(names))):
        evaluator.process('', [index], [path], *images_of(path))
    summary = evaluator.summarize({
        'code': f'{name}, {channels * resolution**2 // factor**2} values or bytes a picture',
        'images_of': len(names), 'pipeline': describe_pipeline(pipeline),
        'software': describe_environment()['packages']})
    write_results(summary, folder)
    write_kept(summary, folder, files, images_of, asked_for=[names[index] for index in random_images(len(names))])
    return summary


def _values(picture, channels, factor):
    return channels * picture.width * picture.height // factor**2


def _file(picture, form, options, quality):
    file = io.BytesIO()
    picture.save(file, form, quality=quality, **options)
    return file.getvalue()


def _decoded(file):
    return Image.open(io.BytesIO(file)).convert('RGB')


def _to_tensor(picture):
    return from_bytes(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])


def _to_picture(images):
    return Image.fromarray(to_bytes(images)[0].permute(1, 2, 0).contiguous().numpy())
