"""``index.json`` of a folder of cached latents: plain data, which is checked before it is used.

| key | holds |
| --- | --- |
| ``format``, ``format_version`` | name and version of this format |
| ``complete`` | false until every shard is written |
| ``settings`` | everything that decides the content; see `CacheSettings` in ``wfvae_toolkit.latents.write_cache`` |
| ``protocol`` | paths of model and data, versions of packages |
| ``statistics`` | per-channel ``mean`` and ``std`` of raw latents, or null |
| ``latent_shape`` | [C, h, w] |
| ``skipped`` | ``path`` and ``reason`` of every picture that could not be read |
| ``shards`` | ``file`` and ``names`` of every shard |

A shard is a safetensors file with one tensor per picture, (views, parts * C, h, w), under the picture's name. There are
two views if mirror images are cached: the picture and its mirror image. There are two parts if ``what`` is ``moments``:
mean and logvar of the posterior.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from wfvae_toolkit.utils.errors import UserError
from wfvae_toolkit.utils.files import write_json

FORMAT = 'wfvae_toolkit latent cache'
FORMAT_VERSION = 1
INDEX = 'index.json'
WHAT = ('moments', 'mean', 'sample')
DTYPES = ('float32', 'float16', 'bfloat16')
# A file name without a folder, so that an index cannot name a file outside its own folder.
_SHARD = re.compile(r'shard_\d{5,}\.safetensors')


class LatentCacheError(UserError, ValueError):
    """A folder of cached latents that cannot be used; the message names the folder and the reason."""


@dataclass
class LatentIndex:
    """Content of ``index.json``; the module describes its fields."""

    settings: dict
    protocol: dict
    complete: bool = False
    statistics: dict | None = None
    latent_shape: list | None = None
    skipped: list = ()
    shards: list = ()

    @classmethod
    def read(cls, folder):
        """Read and check the index of a folder.

        Raises:
            LatentCacheError: it is missing, damaged, or of another format or version.
        """
        path = Path(folder) / INDEX
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            if not isinstance(content, dict) or content.pop('format', None) != FORMAT:
                raise ValueError(f'its format is not {FORMAT!r}')
            version = content.pop('format_version', None)
            if version != FORMAT_VERSION:
                raise ValueError(f'format {version}, this version reads {FORMAT_VERSION}')
            index = cls(**content)
            index.check()
        except FileNotFoundError:
            raise LatentCacheError(f'{path}: no such file; tools/cache_latents.py writes it') from None
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise LatentCacheError(f'{path}: not an index of cached latents ({error})') from None
        return index

    def check(self):
        """Check every value, names and counts included. Raises ValueError, TypeError or KeyError."""
        settings = self.settings
        _require(settings['what'] in WHAT and settings['dtype'] in DTYPES, 'what or dtype is unknown')
        _require(all(isinstance(settings[key], bool) for key in ('flips', 'normalized')), 'flips or normalized')
        if not self.complete:
            return
        _require(len(self.latent_shape) == 3 and all(type(side) is int and side > 0 for side in self.latent_shape),
                 'latent_shape')
        if self.statistics is not None:
            for key in ('mean', 'std'):
                values = self.statistics[key]
                _require(len(values) == self.latent_shape[0] and all(map(math.isfinite, values)), f'statistics {key}')
            _require(min(self.statistics['std']) > 0, 'a std is not above 0')
        files = [shard['file'] for shard in self.shards]
        _require(all(isinstance(file, str) and _SHARD.fullmatch(file) for file in files),
                 "a shard's file is no plain name such as shard_00000.safetensors")
        names = [name for shard in self.shards for name in shard['names']]
        _require(all(isinstance(name, str) for name in names), 'a name is not a string')
        _require(len(set(files)) == len(files) and len(set(names)) == len(names), 'a shard or a name is listed twice')
        _require(len(names) + len(self.skipped) == settings['images'],
                 f'{len(names)} names and {len(self.skipped)} skipped for {settings["images"]} images')

    def write(self, folder):
        """Write ``index.json`` into a folder, atomically."""
        write_json(Path(folder) / INDEX, {'format': FORMAT, 'format_version': FORMAT_VERSION, **vars(self)})


def shard_name(number):
    """File name of shard ``number``, counted from 0."""
    return f'shard_{number:05}.safetensors'


def _require(condition, problem):
    if not condition:
        raise ValueError(problem)
