"""Everything that happens to the latents of a trained model, in the order in which a user meets it.

1. `measure`: mean and std of every latent channel over many pictures.
2. `write_cache`: the latents of a dataset, in a folder of safetensors shards.
3. `index`: the list of what such a folder holds.
4. `dataset`: the folder as a PyTorch dataset, for diffusion training.
"""

from wfvae_toolkit.models.latent_statistics import LatentStatistics

from .dataset import CachedLatents
from .index import LatentCacheError, LatentIndex
from .measure import LatentMeasurement, measure_activations, measure_latents
from .write_cache import CacheSettings, LatentCache

__all__ = ['CacheSettings', 'CachedLatents', 'LatentCache', 'LatentCacheError', 'LatentIndex', 'LatentMeasurement',
           'LatentStatistics', 'measure_activations', 'measure_latents']
