"""Write the latents of a dataset into safetensors shards, as ``tools/cache_latents.py`` does.

The numbers of the pictures alone decide which pictures a shard holds and how they form batches. So any number of ranks
writes the same bytes, and a run that was stopped continues with the missing shards. A shard is written again if the
size in bytes or the modification time of one of its pictures has changed.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from wfvae_toolkit.checkpoints import fingerprint
from wfvae_toolkit.datasets import PictureCounts, count_images, describe_pipeline, load_batches
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.environment import describe_environment
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_write, printable
from wfvae_toolkit.utils.finite import check_finite
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.seeding import mix_seed, standard_normal
from wfvae_toolkit.utils.urls import shown_url

from .index import DTYPES, INDEX, WHAT, LatentCacheError, LatentIndex, shard_name
from .measure import encode_bytes

_METADATA = 'shard'  # one key only: safetensors does not keep the order of several


@dataclass(frozen=True)
class CacheSettings:
    """What is cached of each picture.

    Args:
        what (str): ``'moments'`` (mean and logvar, so that each epoch can draw a new sample), ``'mean'``, or one
            ``'sample'``.
        flips (bool): cache the mirror image too.
        dtype (str): of the files: ``'float32'``, ``'float16'`` or ``'bfloat16'``.
        normalized (bool): store (raw - mean) / std by the model's statistics instead of raw latents.
        seed (int): seed of samples.
        shard_size (int): pictures per shard.

    Raises:
        SettingError: a value that is not allowed.
    """

    what: str = 'moments'
    flips: bool = False
    dtype: str = 'float32'
    normalized: bool = False
    seed: int = 0
    shard_size: int = 1024

    def __post_init__(self):
        if self.what not in WHAT or self.dtype not in DTYPES:
            raise SettingError(f'what={self.what!r}, dtype={self.dtype!r}: use one of {", ".join(WHAT)} and one of '
                               f'{", ".join(DTYPES)}')
        if self.seed < 0 or self.shard_size < 1:
            raise SettingError(f'seed={self.seed}, shard_size={self.shard_size}: use at least 0 and at least 1')


def default_what(autoencoder):
    """``what`` of a cache unless it is chosen: 'moments' of a Gaussian, 'mean' of another posterior."""
    kind = getattr(autoencoder, 'posterior_kind', None)
    return 'moments' if kind is None or issubclass(kind.distribution, DiagonalGaussian) else 'mean'


class LatentCache:
    """The cache of a dataset's latents in a folder, which may be new, unfinished or finished.

    Args:
        model (TrainedModel): the file that ``reconstructor`` was built from.
        reconstructor (Reconstructor): encodes the pictures.
        dataset (ImageDataset): of `open_images`, with a pipeline that gives ``edge`` x ``edge`` px.
        pipeline (sequence of dict): the dataset's pipeline; the index describes it.
        edge (int): px, a multiple of the model's factor.
        folder (str | Path): the cache.
        settings (CacheSettings): what is cached.
        max_images (int): cache only the first ones.
        data (str): name of the dataset in the index.

    Raises:
        SettingError: the model's factor does not divide ``edge``, normalised latents of a model without statistics, a
            variance that the posterior does not have, or a name that is listed twice.
        LatentCacheError: the folder holds a cache with other settings; the message lists the differences.
    """

    def __init__(self, model, reconstructor, dataset, pipeline, edge, folder, settings, max_images=None, data=''):
        factor = reconstructor.autoencoder.downsample_factor
        if edge % factor:
            raise SettingError(f'{edge} px: the model needs a multiple of {factor}, such as '
                               f'{max(factor, round(edge / factor) * factor)}')
        if settings.what == 'moments' and default_what(reconstructor.autoencoder) != 'moments':
            raise SettingError(f'{model.path}: its latents have no mean and variance of a Gaussian to cache; use mean '
                               'or sample in place of moments')
        if settings.normalized and model.statistics is None:
            raise SettingError(f'{model.path} has no latent statistics: run tools/measure_latents.py first, or cache '
                               'raw latents')
        self.reconstructor, self.dataset, self.settings = reconstructor, dataset, settings
        self.folder = Path(folder).expanduser()
        self.names = [printable(dataset.path(index)) for index in range(count_images(dataset, max_images))]
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise SettingError(f'{twice} is listed twice: a latent is found by its name; list it once')
        statistics = None
        if model.statistics is not None:
            statistics = {'mean': list(model.statistics.mean), 'std': list(model.statistics.std)}
        self.statistics = model.statistics
        side = edge // factor
        self.index = LatentIndex(
            settings={
                **vars(settings), 'model': fingerprint(model), 'precision': str(reconstructor.dtype),
                'pipeline': describe_pipeline(pipeline, dataset.convert_to_srgb), 'images': len(self.names),
                'names': hashlib.sha256('\n'.join(self.names).encode()).hexdigest(),
                'normalized_by': statistics if settings.normalized else None},
            protocol={'model': str(model.path), 'weights': model.weights, 'data': shown_url(data),
                      'software': describe_environment()['packages']},
            statistics=statistics, latent_shape=[reconstructor.autoencoder.latent_channels, side, side])
        self._check_folder()

    def fill(self, batch_size=8, skip_bad=False, num_workers=0):
        """Write this rank's share of the missing shards, then the index. Every rank must call it.

        Args:
            batch_size (int): pictures per batch. Another batch size changes rounding, by about 1e-7.
            skip_bad (bool): leave out files that cannot be read, and list them in the index.
            num_workers (int): processes that read pictures.

        Returns:
            LatentIndex: as written.

        Raises:
            LatentCacheError: a picture cannot be read, and ``skip_bad`` is off.
            NotFinite: a latent is NaN or infinite, as computed or in the dtype of the files; finished shards are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if distributed.is_main() and (self._remove_outdated() or not (self.folder / INDEX).is_file()):
            self.index.write(self.folder)
        distributed.barrier()
        missing = [number for number in range(self.shard_count) if not self._path(number).is_file()]
        # Every rank must list the missing shards before any rank writes one.
        distributed.barrier()
        mine = missing[distributed.rank()::distributed.world_size()]
        self._write_shards(mine, batch_size, skip_bad, num_workers)
        distributed.barrier()
        self._finish(skip_bad)
        return self.index

    @property
    def shard_count(self):
        return -(-len(self.names) // self.settings.shard_size)

    def _path(self, number):
        return self.folder / shard_name(number)

    def _numbers(self, shard):
        """Numbers of the pictures of a shard, a range."""
        return range(shard * self.settings.shard_size, min((shard + 1) * self.settings.shard_size, len(self.names)))

    def _write_shards(self, shards, batch_size, skip_bad, num_workers):
        blocks = []  # (shard, numbers of the pictures of one batch)
        for shard in shards:
            numbers = self._numbers(shard)
            blocks += [(shard, list(numbers[start:start + batch_size])) for start in range(0, len(numbers), batch_size)]
        loader = load_batches(self.dataset, [numbers for _, numbers in blocks], num_workers)
        batches = progress(loader, 'batches cached', len(blocks))
        tensors, skipped, counts = {}, [], PictureCounts()
        for (shard, numbers), batch in zip(blocks, batches, strict=True):
            counts.add(batch)
            skipped += [{'path': printable(bad.path), 'reason': printable(bad.reason)} for bad in batch.bad]
            if skipped and not skip_bad:
                raise LatentCacheError(f'{skipped[0]["path"]}: {skipped[0]["reason"]}; --skip-bad leaves such files '
                                       f'out; finished shards of {self.folder} are kept')
            if len(batch):
                latents = self._encode(batch)
                tensors.update({self.names[index]: latent for index, latent in
                                zip(batch.indices, latents, strict=True)})
            if numbers[-1] == self._numbers(shard)[-1]:
                metadata = {_METADATA: json.dumps({
                    'settings': self._digest(), 'skipped': skipped, 'files': self._file_states(shard)}, sort_keys=True)}
                with atomic_write(self._path(shard)) as file:
                    file.write(save(tensors, metadata))
                tensors, skipped = {}, []
        counts.say()

    @torch.inference_mode()
    def _encode(self, batch):
        """Batch -> list of (views, parts * C, h, w) on the CPU, in the cache's dtype."""
        images = torch.stack(batch.images)
        views = [images, images.flip(-1)] if self.settings.flips else [images]
        names = [self.names[index] for index in batch.indices]
        parts = [self._parts(view, batch.indices, number, names) for number, view in enumerate(views)]
        dtype = getattr(torch, self.settings.dtype)
        stored = torch.stack(parts, dim=1).cpu().to(dtype).contiguous()
        check_finite({'rounding of latents for the files': stored}, dtype, names)
        # Clones, because safetensors refuses to save tensors that share memory.
        return [latent.clone() for latent in stored]

    def _parts(self, images, indices, view, names):
        """One view of the pictures -> (B, parts * C, h, w)."""
        posterior = encode_bytes(self.reconstructor, images, names)
        latents = posterior.mode()
        if self.settings.what == 'sample':
            seeds = [mix_seed('cached latent', self.settings.seed, index, view) for index in indices]
            latents = posterior.sample(noise=standard_normal(latents.shape[1:], seeds))
        if self.settings.normalized:
            latents = self.statistics.normalize(latents)
        if self.settings.what != 'moments':
            return latents
        logvar = posterior.logvar
        if self.settings.normalized:
            std = torch.tensor(self.statistics.std, dtype=logvar.dtype, device=logvar.device)
            logvar = logvar - 2 * std.log()[:, None, None]
        return torch.cat([latents, logvar], dim=1)

    def _digest(self):
        return hashlib.sha256(json.dumps(self.index.settings, sort_keys=True).encode()).hexdigest()

    def _check_folder(self):
        """Raise LatentCacheError unless the folder is new or holds this cache."""
        if (self.folder / INDEX).exists():
            there, now = LatentIndex.read(self.folder), self.index
            other = [_difference(key, there, now) for key in {**there.settings, **now.settings}
                     if there.settings.get(key) != now.settings.get(key)]
            if other:
                raise LatentCacheError(f'{self.folder} holds a cache that was made with other settings: '
                                       f'{"; ".join(other)}. Choose another folder, or the same settings')
        for number in range(self.shard_count):
            if self._path(number).exists() and self._header(number)[0] != self._digest():
                raise LatentCacheError(f'{self._path(number)} belongs to another cache: choose another folder')

    def _file_states(self, shard):
        """[size in bytes, modification time in ns] of each picture of a shard; None for a picture without a file."""
        return [self.dataset.file_state(index) for index in self._numbers(shard)]

    def _remove_outdated(self):
        """Remove and log every shard of which a picture has changed. Returns True if there was any."""
        found = False
        for shard in range(self.shard_count):
            # Earlier versions wrote no states of files; such a shard is kept.
            states = self._header(shard)[3] if self._path(shard).is_file() else None
            if states is None:
                continue
            changed = [self.names[index] for index, then, now in zip(
                self._numbers(shard), states, self._file_states(shard), strict=True) if then != now]
            if changed:
                logging.getLogger('wfvae_toolkit').warning(
                    f'{self._path(shard)} is written again: {len(changed)} of its pictures have changed since, '
                    f'the first: {changed[0]}')
                self._path(shard).unlink()
                found = True
        return found

    def _header(self, number):
        """(digest of settings, skipped, names, states of files or None) of a finished shard."""
        path = self._path(number)
        try:
            with safe_open(path, 'pt') as file:
                content = json.loads(file.metadata()[_METADATA])
                return content['settings'], content['skipped'], set(file.keys()), content.get('files')
        except (SafetensorError, OSError, ValueError, TypeError, LookupError) as error:
            raise LatentCacheError(f'{path}: damaged ({error}); remove it and run again') from None

    def _finish(self, skip_bad):
        """Fill the index from the headers of the shards; rank 0 writes it."""
        self.index.shards, self.index.skipped = [], []
        for number in range(self.shard_count):
            _, skipped, held, _ = self._header(number)
            names = [self.names[index] for index in self._numbers(number)]
            left_out = {entry['path'] for entry in skipped}
            names = [name for name in names if name not in left_out]
            if held != set(names):
                raise LatentCacheError(f'{self._path(number)}: does not hold the latents that it should; remove it '
                                       'and run again')
            self.index.shards.append({'file': shard_name(number), 'names': names})
            self.index.skipped += skipped
        if self.index.skipped and not skip_bad:
            raise LatentCacheError(f'{self.folder}: {len(self.index.skipped)} files could not be read when the cache '
                                   f'was started, the first: {self.index.skipped[0]["path"]}; --skip-bad accepts that')
        self.index.complete = True
        if distributed.is_main():
            self.index.write(self.folder)
        distributed.barrier()


def _difference(key, there, now):
    """One difference between the index of a folder and the one that is asked for, in words if the values are hashes."""
    if key == 'model':
        before, after = (f'{index.protocol.get("model")} ({index.protocol.get("weights")} weights)'
                         for index in (there, now))
        changed = f'{after} has changed since' if before == after else f'it was made by {before}, now it is {after}'
        return f'{changed}: config or weights of the model are others'
    if key == 'names':
        return f'the list of its {there.settings.get("images")} pictures is another one'
    return f'{key} is {there.settings.get(key)!r} there and {now.settings.get(key)!r} now'
