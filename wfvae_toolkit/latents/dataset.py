"""Cached latents as a PyTorch dataset: a diffusion model trains on it without the autoencoder."""

import operator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from wfvae_toolkit.datasets import PathList
from wfvae_toolkit.utils.errors import SettingError, UnknownName
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal

from .index import LatentCacheError, LatentIndex


class CachedLatents(Dataset):
    """Latents that ``tools/cache_latents.py`` wrote, found by number or by name.

    An item is a dict that PyTorch's default collate stacks: ``latent`` (C, h, w) float32, ``name`` (relative path of
    the picture) and ``number``. Samples and flips are functions of (``seed``, epoch, number), so they do not depend on
    the number of workers and ranks.

    Args:
        folder (str | Path): the cache. A shard is memory-mapped when it is first needed.
        sample_posterior (bool): True draws a sample of the posterior, False gives its mean. None draws if ``moments``
            are cached. A cache of ``mean`` or ``sample`` gives what it holds.
        random_flip (bool): True gives the latent of the mirror image half of the time. None: if the cache has them.
        normalize (bool): True gives every channel mean 0 and std 1 by the statistics of the cache. False gives the
            raw latents of the autoencoder. None: if the cache has statistics.
        seed (int): seed of samples and flips.

    Raises:
        LatentCacheError: the cache is not finished, is damaged, or a shard is missing.
        SettingError: an argument asks for something that is not cached.
    """

    def __init__(self, folder, sample_posterior=None, random_flip=None, normalize=None, seed=0):
        self.folder = Path(folder).expanduser()
        index = LatentIndex.read(self.folder)
        if not index.complete:
            raise LatentCacheError(f'{self.folder}: the cache is not finished; run tools/cache_latents.py again')
        self.settings, self.latent_shape = index.settings, tuple(index.latent_shape)
        self.statistics = index.statistics
        self.names = PathList(name for shard in index.shards for name in shard['names'])
        self.seed = seed
        self.sample_posterior = self._choose('sample_posterior', sample_posterior, self.settings['what'] == 'moments')
        self.random_flip = self._choose('random_flip', random_flip, self.settings['flips'])
        self.normalize = self._choose('normalize', normalize, self.statistics is not None)
        self._files = [shard['file'] for shard in index.shards]
        counts = torch.tensor([len(shard['names']) for shard in index.shards])
        self._ends = counts.cumsum(0)
        for file in self._files:
            if not (self.folder / file).is_file():
                raise LatentCacheError(f'{self.folder / file}: no such file, although the index names it')
        # In shared memory, so that persistent workers see a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._numbers, self._open = None, {}

    def __len__(self):
        return len(self.names)

    def set_epoch(self, epoch):
        """Draw new samples and flips from now on, in workers too. Call it before each pass over a loader."""
        self._epoch.fill_(epoch)

    def number(self, name):
        """Relative path of a picture -> its number. Raises UnknownName (a KeyError) if it is not cached."""
        if self._numbers is None:
            self._numbers = {name: number for number, name in enumerate(self.names)}
        if name not in self._numbers:
            raise UnknownName(f'{self.folder}: no latent of {name!r}')
        return self._numbers[name]

    def __getitem__(self, key):
        """Number or name -> dict.

        Raises:
            IndexError: no such number.
            UnknownName: no such name; it is a KeyError.
            LatentCacheError: the shard does not hold what the index says.
        """
        number = self.number(key) if isinstance(key, str) else operator.index(key)
        if not 0 <= number < len(self):
            raise IndexError(f'number {number}: there are {len(self)} latents')
        views = self.stored(number)
        flip_seed, noise_seed = (mix_seed('cached latent', self.seed, int(self._epoch), number, use) for use in (0, 1))
        view = 0
        if self.random_flip:
            view = int(torch.randint(2, (), generator=torch.Generator().manual_seed(flip_seed)))
        latent = self._latent(views[view].float(), noise_seed)
        return {'latent': latent, 'name': self.names[number], 'number': number}

    def stored(self, number):
        """The tensor of the file, (views, parts * C, h, w) in the cache's dtype; see ``latents/index.py``."""
        shard = int(torch.searchsorted(self._ends, number, right=True))
        name = self.names[number]
        path = self.folder / self._files[shard]
        try:
            tensor = self._shard(shard, path).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise LatentCacheError(f'{path}: damaged, or not what the index says ({error})') from None
        expected = (1 + self.settings['flips'], self._parts * self.latent_shape[0], *self.latent_shape[1:])
        if tuple(tensor.shape) != expected or tensor.dtype != getattr(torch, self.settings['dtype']):
            raise LatentCacheError(f'{path}: {name!r} is {tuple(tensor.shape)} {tensor.dtype}, the index says '
                                   f'{expected} {self.settings["dtype"]}')
        return tensor

    @property
    def _parts(self):
        return 2 if self.settings['what'] == 'moments' else 1

    def _latent(self, stored, noise_seed):
        latent = stored
        if self._parts == 2:
            latent, logvar = stored.chunk(2)
            if self.sample_posterior:
                latent = latent + (logvar / 2).exp() * standard_normal(latent.shape, [noise_seed])[0]
        if self.normalize == self.settings['normalized']:
            return latent.clone()  # a view would keep logvar in memory
        mean, std = (torch.tensor(self.statistics[key])[:, None, None] for key in ('mean', 'std'))
        return (latent - mean) / std if self.normalize else latent * std + mean

    def _shard(self, number, path):
        if number not in self._open:
            self._open[number] = safe_open(path, 'pt')
        return self._open[number]

    def _choose(self, name, asked, there):
        if asked and not there:
            raise SettingError(f'{self.folder}: {name}=True, but the cache holds {self.settings["what"]}, '
                               f'flips={self.settings["flips"]} and '
                               f'{"no" if self.statistics is None else "its"} statistics')
        return there if asked is None else asked

    def __getstate__(self):
        # Every process opens the files itself.
        return {**self.__dict__, '_open': {}}
