"""Load the weights from which a run starts at iteration 0."""

import fnmatch

import torch

from wfvae_toolkit.checkpoints import CheckpointError, read_model_file
from wfvae_toolkit.checkpoints.settings import complete, difference
from wfvae_toolkit.checkpoints.trained import check_weights
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.errors import SettingError, UserError


def start_from(model, path, weights='ema', allow_missing=()):
    """Fill a training model from any MODEL; returns the names of weights that keep their initial values.

    A native training checkpoint also holds a discriminator; other forms hold only the autoencoder.

    Args:
        model (AutoencoderTraining): filled in place.
        path (str | Path): a MODEL, as of ``wfvae_toolkit.checkpoints.read_model``.
        weights (str): ``'ema'`` or ``'raw'``, of the autoencoder; the discriminator has raw ones only.
        allow_missing (list[str]): patterns of names that may be absent on one side or differ in shape, such as
            ``'discriminator.*'`` or ``'autoencoder.decoder.conv_in.*'``. Also patterns of settings that may differ
            although no name or shape shows them, such as ``'autoencoder.wavelet'``.

    Raises:
        CheckpointError: the file is unreadable; a weight without a matching pattern is missing, unexpected or of
            another shape; or such a setting differs, for example the wavelet, which has no weights.
    """
    if weights not in ('ema', 'raw'):
        raise SettingError(f"load_from.weights={weights!r}: 'ema' or 'raw'")
    content = read_model_file(path)
    source = content.select(weights)
    state = {f'autoencoder.{name}': value for name, value in source.state.items()} | content.others
    check_weights(state, path)
    wanted = model.state_dict()
    problems = misfits(wanted, state)
    refused = {name: what for name, what in problems.items()
               if not any(fnmatch.fnmatch(name, pattern) for pattern in allow_missing)}
    if refused:
        shown = ', '.join(f'{name} ({what})' for name, what in list(refused.items())[:5])
        parts = sorted({name.split('.')[0] for name in refused})
        advice = ('if some weights are meant to be new, list patterns of their names in '
                  'load_from.allow_missing' if 'autoencoder' in parts else
                  f'if a new {" and ".join(parts)} is meant, say load_from.allow_missing='
                  f'{[f"{part}*" for part in parts]}')
        if len(refused) > 5:
            shown += f' and {len(refused) - 5} more'
        raise CheckpointError(f'{path} does not fit: {shown}; {advice}')
    hidden = {name: pair for name, pair in hidden_differences(source.config, model.autoencoder_config).items()
              if not any(fnmatch.fnmatch(f'autoencoder.{name}', pattern) for pattern in allow_missing)}
    if hidden:
        shown = '; '.join(f'model.autoencoder.{name} was {before!r} and is {now!r}'
                          for name, (before, now) in hidden.items())
        raise CheckpointError(f'{path}: its weights fit, but the network would compute other results: {shown}; set it '
                              'back, or if it is meant, say load_from.allow_missing='
                              f'{[f"autoencoder.{name}" for name in hidden]}')
    model.load_state_dict({name: value for name, value in state.items() if name not in problems}, strict=False)
    return sorted(name for name in problems if name in wanted)


def misfits(wanted, state):
    """Compare two state dicts: sorted dict of name -> 'missing', 'unexpected', or the two shapes."""
    problems = dict.fromkeys(wanted.keys() - state.keys(), 'missing')
    problems |= dict.fromkeys(state.keys() - wanted.keys(), 'unexpected')
    problems |= {name: f'{tuple(state[name].shape)} for {tuple(wanted[name].shape)}'
                 for name in wanted.keys() & state.keys() if state[name].shape != wanted[name].shape}
    return dict(sorted(problems.items()))


def hidden_differences(first, second):
    """Two AUTOENCODERS configs -> setting -> (first's, second's), for differences that no weight's name or shape shows.

    Each setting is tried alone, on the meta device. Dropout is left out: it has no effect after training.
    """
    shapes = _shapes(second)
    if first['type'] != second['type']:
        same = _shapes(first) == shapes
        return {'type': (first['type'], second['type'])} if same else {}
    before, now = (_without_dropout(complete(config)) for config in (first, second))
    return {name: (before.get(name), now.get(name)) for name in difference(before, now)
            if _shapes({**second, name: before.get(name)}) == shapes}


def _shapes(config):
    """Name -> shape of every weight; None if a network cannot be built from these settings."""
    with torch.device('meta'), torch.random.fork_rng(devices=[]):
        try:
            network = AUTOENCODERS.build(config)
        except UserError:
            return None
    return {name: value.shape for name, value in network.state_dict().items()}


def _without_dropout(node):
    if isinstance(node, dict):
        return {name: _without_dropout(value) for name, value in node.items() if name != 'dropout'}
    return [_without_dropout(value) for value in node] if isinstance(node, (list, tuple)) else node
