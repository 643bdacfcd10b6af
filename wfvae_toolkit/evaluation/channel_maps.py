"""What the latent channels of a few images look like, for the report."""

from pathlib import Path

import torch
import torch.nn.functional as F

from wfvae_toolkit.utils.files import printable, write_json
from wfvae_toolkit.utils.pixels import to_bytes
from wfvae_toolkit.visualization.pictures import write_picture

MAPS_FILE = 'channels.json'
# Of an evaluation. So the maps of 16 x 64 channels of 128 px take 16 MB at most.
IMAGES, CHANNELS, SIDE = 16, 64, 128
RANGE = 3.0  # standard deviations to either side of the mean


def channel_maps(latents):
    """(1, C, h, w) -> uint8 (C*h, w), a channel below another; at most CHANNELS, their longer side SIDE at most.

    Mid-grey is the channel's mean in this image; black and white are RANGE standard deviations below and above it.
    """
    maps = latents[:, :CHANNELS].float()
    if max(maps.shape[-2:]) > SIDE:
        scale = SIDE / max(maps.shape[-2:])
        maps = F.interpolate(maps, [max(1, round(side * scale)) for side in maps.shape[-2:]], mode='area')
    spread = maps.std((2, 3), correction=0, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    maps = (maps - maps.mean((2, 3), keepdim=True)) / (RANGE * spread)
    return to_bytes(maps.clamp(-1, 1)).flatten(0, 2).cpu().numpy()


def write_channel_maps(paths, folder, names, latents_of):
    """Write ``channels/NAME.png`` of the first images, and ``channels.json``.

    ``channels.json`` is a dict: path of a row in metrics.csv -> ``file``, relative to ``folder``, ``channels``, how
    many there are one below another, and ``of``, how many the latents have.

    Args:
        paths (Sequence[str]): of the images whose pictures are kept, the most interesting first.
        folder (str | Path): of the evaluation.
        names (dict[str, str]): `picture_files` of all images.
        latents_of (callable): path -> latents, (1, C, h, w).
    """
    listed = {}
    for path in paths[:IMAGES]:
        latents = latents_of(path)
        place = Path(folder) / 'channels' / names[path]
        place.parent.mkdir(parents=True, exist_ok=True)
        write_picture(channel_maps(latents), place)
        listed[path] = {'file': f'channels/{printable(names[path])}', 'channels': min(latents.shape[1], CHANNELS),
                        'of': latents.shape[1]}
    write_json(Path(folder) / MAPS_FILE, listed)
