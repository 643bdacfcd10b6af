"""Models by name: those that the package ships, and those of the Hugging Face Hub."""

import re
from pathlib import Path

from wfvae_toolkit.utils.errors import MissingLibrary

from .folders import CONFIG_NAME, RECORD_NAME, WEIGHTS_NAME
from .trained import CheckpointError

SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / 'shipped'
# Name of the folder in SHIPPED_FOLDER -> what it is.
SHIPPED = {'wfvae2-tiny': '8x, 8 latent channels, 3.0 M parameters, photographs'}
# Nothing else of a repository is fetched: neither code nor pickles.
_FETCHED = (CONFIG_NAME, RECORD_NAME, f'{WEIGHTS_NAME}.safetensors', f'{WEIGHTS_NAME}.safetensors.index.json',
            f'{WEIGHTS_NAME}-*-of-*.safetensors')
_FILES = ('.pth', '.pt', '.ckpt', '.bin', '.safetensors', '.json', '.onnx', '.pt2')
_REPOSITORY = re.compile(r'\w[\w.-]*/\w[\w.-]*(@[^@\s]+)?')


def find_model(model):
    """The path of a MODEL: what stands at this path, a shipped model, or a copy of a repository of the Hub.

    A path that exists wins. Then a name without a slash is one of ``SHIPPED``, and a name ``org/name[@revision]`` is a
    repository of the Hugging Face Hub (``@`` and a branch, tag or commit). Its settings and safetensors are fetched
    into the cache of ``huggingface_hub``, which also says how to work offline (``HF_HUB_OFFLINE=1``). A pipeline's
    repository has them in ``vae/``.

    Args:
        model (str | Path): a path or a name.

    Returns:
        Path

    Raises:
        CheckpointError: nothing of this name here, and nothing that can be fetched; the message says what was tried.
        MissingLibrary: a repository without ``huggingface_hub``.
    """
    if not isinstance(model, (str, Path)):
        raise CheckpointError(f'{model!r}: a MODEL is a path or a name')
    path = Path(model).expanduser()
    name = str(model)
    if path.exists():
        return path
    if name in SHIPPED:
        return SHIPPED_FOLDER / name
    if _REPOSITORY.fullmatch(name) and not name.endswith(_FILES):
        return _fetch(*name.partition('@')[::2])
    names = '' if path.name != name or path.suffix in _FILES else (
        f'; models by name: {", ".join(SHIPPED)} (shipped), or org/name[@revision] of the Hugging Face Hub')
    raise CheckpointError(f'{path}: no such file or folder{names}')


def _fetch(repository, revision):
    """The folder of a repository's autoencoder in the cache."""
    missing = f'{repository}: no such file or folder here, so it is read as a repository of the Hugging Face Hub'
    try:
        from huggingface_hub import constants, errors, hf_hub_download, snapshot_download
    except ImportError as error:
        raise MissingLibrary(f'{missing}; that needs huggingface_hub ({error}): pip install huggingface_hub') from None

    def config_in(folder):
        return hf_hub_download(repository, f'{folder}{CONFIG_NAME}', revision=revision or None)

    try:
        folder = ''
        try:
            config_in(folder)
        except errors.LocalEntryNotFoundError:  # no network, and not in the cache: it may be a pipeline that is
            if not constants.HF_HUB_OFFLINE:
                raise
            config_in(folder := 'vae/')
        except errors.EntryNotFoundError:
            config_in(folder := 'vae/')
        root = snapshot_download(repository, revision=revision or None,
                                 allow_patterns=[f'{folder}{pattern}' for pattern in _FETCHED])
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(f'{missing}; it is not in the cache ({constants.HF_HUB_CACHE}) and cannot be fetched: '
                              f'{_one_line(error)}') from None
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        raise CheckpointError(f'{missing}, which gives no model: {_one_line(error)}') from None
    return Path(root) / folder


def _one_line(error):
    return ' '.join(str(error).split())[:300]
