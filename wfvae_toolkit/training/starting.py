"""Weights that a run starts from, at iteration 0."""

import fnmatch

from wfvae_toolkit.checkpoints import CheckpointError, read_model_file
from wfvae_toolkit.utils.errors import SettingError


def start_from(model, path, weights='ema', allow_missing=()):
    """Fill a training model from any MODEL; returns the names that stay as they were initialised.

    A native training checkpoint brings its discriminator too; other forms hold the autoencoder alone.

    Args:
        model (AutoencoderTraining): filled in place.
        path (str | Path): a MODEL, as of ``wfvae_toolkit.checkpoints.read_model``.
        weights (str): ``'ema'`` or ``'raw'``, of the autoencoder; the discriminator has raw ones only.
        allow_missing (list[str]): patterns of names that may be absent on one side or differ in shape, such as
            ``'discriminator.*'`` or ``'autoencoder.decoder.conv_in.*'``.

    Raises:
        CheckpointError: unreadable, or a name that no pattern covers is missing, unexpected or of another shape.
    """
    if weights not in ('ema', 'raw'):
        raise SettingError(f"load_from.weights={weights!r}: 'ema' or 'raw'")
    content = read_model_file(path)
    state = {f'autoencoder.{name}': value for name, value in content.select(weights).state.items()} | content.others
    wanted = model.state_dict()
    problems = misfits(wanted, state)
    refused = {name: what for name, what in problems.items()
               if not any(fnmatch.fnmatch(name, pattern) for pattern in allow_missing)}
    if refused:
        shown = ', '.join(f'{name} ({what})' for name, what in list(refused.items())[:5])
        parts = sorted({name.split('.')[0] for name in refused})
        advice = ('list patterns of what is meant to be new in load_from.allow_missing' if 'autoencoder' in parts else
                  f'if a new {" and ".join(parts)} is meant, say load_from.allow_missing='
                  f'{[f"{part}*" for part in parts]}')
        raise CheckpointError(f'{path} does not fit: {shown}{f" and {len(refused) - 5} more" * (len(refused) > 5)}; '
                              f'{advice}')
    model.load_state_dict({name: value for name, value in state.items() if name not in problems}, strict=False)
    return sorted(name for name in problems if name in wanted)


def misfits(wanted, state):
    """Two state dicts -> name -> what is wrong with it: 'missing', 'unexpected', or the two shapes; sorted."""
    problems = dict.fromkeys(wanted.keys() - state.keys(), 'missing')
    problems |= dict.fromkeys(state.keys() - wanted.keys(), 'unexpected')
    problems |= {name: f'{tuple(state[name].shape)} for {tuple(wanted[name].shape)}'
                 for name in wanted.keys() & state.keys() if state[name].shape != wanted[name].shape}
    return dict(sorted(problems.items()))
