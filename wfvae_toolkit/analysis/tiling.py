"""What tiling costs and changes: time, peak memory and largest difference from the model without tiling."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.models.tiling import set_tiling
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.device import default_device, peak_memory_bytes
from wfvae_toolkit.utils.plugins import import_modules


@dataclass
class TilingCost:
    """One picture; ``tile`` None: without tiling.

    Errors: largest absolute difference from the result without tiling; None for the row without tiling.

    ``peak_memory_bytes``: the process' resident memory, model included, or what torch allocated on a GPU.
    """

    width: int
    height: int
    tile: int | None
    encode_s: float
    decode_s: float
    peak_memory_bytes: int
    latent_error: float | None = None
    image_error: float | None = None


def measure_tiling(source, sizes, tile=512, untiled=True, imports=()):
    """Encode noise and decode standard normal latents of each size, every run in a process of its own.

    Args:
        source (str): a config, ending in .py, for random weights (seed 0), or a MODEL.
        sizes (list[tuple[int, int]]): width and height in px, multiples of f.
        tile (int): see ``Tiling``.
        untiled (bool): run without tiling too, and compare.
        imports (Sequence[str]): modules that register parts of the autoencoder; each process imports them.

    Returns:
        list[TilingCost]: for each size without tiling, then with tiling.

    Raises:
        SettingError: a size or tile that f does not divide, or an autoencoder without tiling.
    """
    costs = []
    for width, height in sizes:
        reference = None
        if untiled:
            cost, *reference = _in_own_process(imports, source, width, height, None)
            costs.append(cost)
        cost, *results = _in_own_process(imports, source, width, height, tile)
        if reference:
            cost.latent_error, cost.image_error = (float((ours - whole).abs().max())
                                                   for ours, whole in zip(results, reference, strict=True))
        costs.append(cost)
    return costs


def format_costs(costs):
    """TilingCosts -> plain-text table."""
    lines = [f'{"size":>11} {"tile":>6} {"encode s":>9} {"decode s":>9} {"peak GiB":>9} {"latent error":>13} '
             f'{"image error":>12}']
    for cost in costs:
        errors = ['-' if error is None else f'{error:.1e}' for error in (cost.latent_error, cost.image_error)]
        lines.append(f'{f"{cost.width}x{cost.height}":>11} {cost.tile or "none":>6} {cost.encode_s:>9.1f} '
                     f'{cost.decode_s:>9.1f} {cost.peak_memory_bytes / 2**30:>9.2f} {errors[0]:>13} {errors[1]:>12}')
    return '\n'.join(lines)


def _in_own_process(imports, *arguments):
    # A process' peak never falls, so a second run in it would show the first one's.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, context, initializer=import_modules, initargs=(imports,)) as pool:
        cost, latents, image = pool.submit(_measure, *arguments).result()
    return cost, torch.from_numpy(latents), torch.from_numpy(image)


@torch.inference_mode()
def _measure(source, width, height, tile):
    torch.manual_seed(0)
    if str(source).endswith('.py'):
        autoencoder = AUTOENCODERS.build(load_config(source).model.autoencoder)
    else:
        autoencoder = read_model(source).build()
    device = default_device()
    autoencoder = autoencoder.to(device).eval()
    set_tiling(autoencoder, False if tile is None else dict(tile=tile))
    factor = autoencoder.downsample_factor
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, height, width, generator=generator) * 2 - 1
    latents = torch.randn(1, autoencoder.latent_channels, height // factor, width // factor, generator=generator)
    encoded, encode_s = _timed(lambda: autoencoder.encode(picture.to(device)).latent_dist.mode().cpu())
    decoded, decode_s = _timed(lambda: autoencoder.decode(latents.to(device)).sample.cpu())
    # As arrays: torch would share its memory with this process, which ends.
    return TilingCost(width, height, tile, encode_s, decode_s, peak_memory_bytes()), encoded.numpy(), decoded.numpy()


def _timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
