"""The description of a run that its checkpoints store, and the differences between two runs."""

import hashlib
import json
from pathlib import PurePath

from wfvae_toolkit.checkpoints.settings import complete
from wfvae_toolkit.datasets import AspectBuckets
from wfvae_toolkit.registry import unregistered_types
from wfvae_toolkit.schema import effective_settings
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.environment import describe_machine, describe_versions
from wfvae_toolkit.utils.urls import shown_url

# Settings that only say how a run is started; no number of the run depends on them.
_OF_THE_START = ('work_dir', 'experiment_name', 'launcher', 'resume', 'resume_drop', 'load_from')


def describe_run(runner):
    """Plain data: ``settings`` by dotted key, ``machine``, ``versions``, ``processes``, ``images_per_iteration``,
    ``teachers`` by row, ``features`` that the discriminator sees, and ``data``, on rank 0: number and digest of the
    names in each dataset."""
    loaders = {'train_dataloader': runner.train_loop.dataloader}
    if runner.val_loop is not None:
        loaders['val_dataloader'] = runner.val_loop.dataloader
    return {'settings': settings_of(runner.cfg), 'machine': describe_machine(), 'versions': describe_versions(),
            'processes': distributed.world_size(), 'images_per_iteration': _images(runner.train_loop),
            'teachers': {name: loss.source for name, loss in runner.model.losses.items() if hasattr(loss, 'source')},
            'features': getattr(runner.model.discriminator, 'source', None),
            'data': {name: describe_data(loader.dataset) for name, loader in loaders.items()}
            if distributed.is_main() else {}}


def _images(loop):
    """Images of an iteration, over all ranks; a list where stages have other numbers."""
    images = [loop.images_between(stage.start_iter, stage.start_iter + 1) for stage in loop.stages]
    return images[0] if len(set(images)) == 1 else images


def settings_of(cfg):
    """Config -> every setting that runs, defaults included, by dotted key; without those of the start."""
    return {key: plain(value) for key, value in effective_settings(cfg).items()
            if key.partition('.')[0] not in _OF_THE_START}


def describe_data(dataset):
    """Number of samples, and a digest of their names in order; '' for a dataset without names."""
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(dataset, AspectBuckets):
        dataset = dataset.dataset  # the buckets number their pictures anew for each size
    if not hasattr(dataset, 'path'):
        return {'files': len(dataset), 'digest': ''}
    for index in range(len(dataset)):
        digest.update(dataset.path(index).encode('utf-8', 'surrogatepass') + b'\0')
    return {'files': len(dataset), 'digest': digest.hexdigest()}


def plain(value):
    """A setting as a checkpoint can store it: numbers, texts, lists and dicts. Any other object becomes its name."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return shown_url(value)  # a credential must not get into reports
    if isinstance(value, PurePath):
        return str(value)
    # A class, a function or a built object: repr() would contain a memory address.
    named = value if hasattr(value, '__qualname__') else type(value)
    return f'{named.__module__}.{named.__qualname__}'


def of_autoencoder(config):
    """AUTOENCODERS config or its JSON -> settings by dotted key, with all defaults, for comparing two networks."""
    config = json.loads(config) if isinstance(config, str) else config
    return dict(_flatten(plain(config if unregistered_types(config) else complete(config)), 'model.autoencoder'))


def _flatten(node, path):
    parts = isinstance(node, list) and any(isinstance(item, dict) for item in node)
    if not (isinstance(node, dict) or parts):
        yield path, node
        return
    for key, item in enumerate(node) if parts else node.items():
        yield from _flatten(item, f'{path}.{key}')


def changes(before, now):
    """[(dotted key, before, now)] of settings that differ. A row or part that exists on one side only is one entry."""
    found = {}
    for key in [*now, *(key for key in before if key not in now)]:
        if key in before and key in now and before[key] == now[key]:
            continue
        place = next((place for side in (before, now) if key not in side for place in [_lacking(key, side)]), key)
        pair = _at(place, before), _at(place, now)
        if pair[0] != pair[1]:
            found[place] = pair
    return [(place, *pair) for place, pair in found.items()]


def _lacking(key, settings):
    """The shortest prefix of a dotted key under which ``settings`` has no key."""
    names = key.split('.')
    places = ('.'.join(names[:count]) for count in range(1, len(names) + 1))
    return next((place for place in places if not any(other.startswith(f'{place}.') for other in settings)), key)


def _at(place, settings):
    """The value of a key, or all settings of a part; None if neither exists."""
    below = {key.removeprefix(f'{place}.'): value for key, value in settings.items() if key.startswith(f'{place}.')}
    return below or settings.get(place)
