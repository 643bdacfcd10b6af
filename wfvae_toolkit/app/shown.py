"""A picture and models -> everything that the page shows, without Gradio."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import torch

from wfvae_toolkit.datasets.images import FOREIGN_PROFILE, BadImage, load_rgb
from wfvae_toolkit.evaluation.metric import EvaluationBatch, UnfitPicture
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.models.tiling import AUTO_PIXELS, TilingControls
from wfvae_toolkit.registry import METRICS
from wfvae_toolkit.report.pictures import error_map, scale_colours
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.pixels import to_bytes
from wfvae_toolkit.visualization.pictures import write_picture

MAP_EDGE = 192  # px, longer side of a channel's map on the page; smaller maps are enlarged to it


@dataclass(frozen=True)
class Shown:
    """What one model makes of one picture.

    Attributes:
        name (str): of the model.
        reconstruction, error (ndarray): uint8 (H, W, 3); the latter as of `report.pictures.error_map`.
        scores (dict[str, float | str]): metric -> value, or the sentence that says why there is none.
        channels (ndarray): uint8 (C, h, w), maps of the normalised latents; grey is 0.
        limit (float): latents of -limit are black, of limit white.
        notes (list[str]): sentences on how it was made.
    """

    name: str
    reconstruction: np.ndarray
    error: np.ndarray
    scores: dict
    channels: np.ndarray
    limit: float
    notes: list


def read_picture(path):
    """-> (uint8 (H, W, 3), notes) of a file, by the rules of ``wfvae_toolkit.datasets.images``.

    Raises:
        SettingError: the file is no picture; one sentence that does not name the folder.
    """
    try:
        picture = load_rgb(path)
    except BadImage as error:
        raise SettingError(f'{Path(path).name} cannot be read as a picture: {error.reason}') from None
    profile = picture.info.get(FOREIGN_PROFILE)
    return np.asarray(picture), [f'Colour profile of the file: {profile}.'] if profile else []


def metrics_of(lpips_weights=None):
    """PSNR, SSIM and STLPIPS; LPIPS (AlexNet) too if the file of the trunk's weights is given."""
    rows = {'PSNR': {}, 'SSIM': {}, 'STLPIPS': {}}
    if lpips_weights is not None:
        rows['LPIPS'] = dict(trunk_weights=str(lpips_weights))
    return {name: METRICS.build(dict(type=name, **settings)).eval() for name, settings in rows.items()}


def look_at(model, name, pixels, metrics):
    """Reconstruct one picture and measure it.

    Args:
        model (Reconstructor): tiles by its own rule.
        name (str): of the model, for the page.
        pixels (ndarray): uint8 (H, W, 3).
        metrics (dict[str, Metric]): as of `metrics_of`.

    Raises:
        NotFinite: latents or reconstruction hold NaN or infinity.
    """
    latents = model.encode(pixels)
    height, width = pixels.shape[:2]
    made = to_bytes(model.decode(latents, (height, width))).cpu()
    reconstruction = made[0].permute(1, 2, 0).contiguous().numpy()
    latents = latents[0].cpu()
    limit = latents.abs().max().item()
    channels = ((latents / (limit or 1.0) + 1) * 127.5).round().to(torch.uint8).numpy()
    return Shown(name, reconstruction, error_map(pixels, reconstruction), _scores(pixels, made, metrics), channels,
                 limit, _notes(model, latents.shape[-2:]))


def _notes(model, latent_size):
    """Whether it was tiled, and latents without statistics; ``latent_size``: height and width of the latents."""
    autoencoder = model.autoencoder
    with torch.no_grad():  # with gradients nothing is tiled
        tiling = isinstance(autoencoder, TilingControls) and autoencoder.active_tiling(
            *(side * autoencoder.downsample_factor for side in latent_size))
    notes = []
    if model.statistics == LatentStatistics.identity(autoencoder.latent_channels):
        notes.append('The model has no statistics of its latents, so they are shown as they are.')
    if not tiling:
        return notes
    exact = 'equals the result in one pass up to rounding' if autoencoder.tiling_is_exact else (
        'may differ slightly from the result in one pass')
    return [*notes, f'The picture is too large for one pass. It was computed in tiles of about {tiling.tile} px. '
                    f'What the convolutions compute {exact}.']


@torch.no_grad()
def _scores(pixels, made, metrics):
    """Scores as `tools/test.py` takes them, of the rounded reconstruction."""
    target = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
    batch = EvaluationBatch(target.float() / 255, made.float() / 255)
    scores = {}
    for name, metric in metrics.items():
        if hasattr(metric, 'network') and target[0, 0].numel() > AUTO_PIXELS:
            scores[name] = f'not computed for more than {AUTO_PIXELS:,} pixels'  # its features would need gigabytes
            continue
        try:
            value = metric.measure(batch).item()
        except UnfitPicture as error:
            scores[name] = str(error)
        else:
            scores[name] = 'identical' if math.isinf(value) else value
    return scores


@functools.cache
def _template():
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    return environment.get_template('result.html.j2')


def result_html(title, pixels, results, notes, folder, address):
    """HTML of what the page shows; its pictures are written into ``folder``.

    Args:
        title (str): name of the picture, escaped here.
        pixels (ndarray): uint8 (H, W, 3), the original.
        results (list[Shown]): a column each.
        notes (list[str]): on the picture.
        folder (Path): receives PNG files.
        address (callable): path of such a file -> its URL.
    """
    def write(name, picture):
        write_picture(picture, folder / name, compress_level=1)
        return address(folder / name)

    columns = []
    for number, shown in enumerate(results):
        columns.append(dict(
            shown=shown, reconstruction=write(f'{number}_reconstruction.png', shown.reconstruction),
            error=write(f'{number}_error.png', shown.error),
            channels=[write(f'{number}_channel_{place}.png', _enlarged(values))
                      for place, values in enumerate(shown.channels)]))
    return _template().render(title=title, width=pixels.shape[1], height=pixels.shape[0], notes=notes,
                              original=write('original.png', pixels), columns=columns,
                              scale=scale_colours()['error'])


def _enlarged(values):
    """uint8 (h, w) -> the same picture, its longer side about MAP_EDGE px, without interpolation."""
    times = max(1, MAP_EDGE // max(values.shape))
    return values.repeat(times, 0).repeat(times, 1)
