"""Find the weights of the perceptual networks: in installed packages, in torch.hub's folder, or by download."""

import contextlib
import importlib.resources
import importlib.util
import pickle
import socket
from http.client import HTTPException
from pathlib import Path

import torch

from wfvae_toolkit.utils.distributed import is_main, of_main
from wfvae_toolkit.utils.errors import MissingFile, SettingError

DOWNLOAD_FOLDER = 'https://download.pytorch.org/models/'
CONNECT_TIMEOUT_S = 5


class PerceptualWeightsMissing(MissingFile):
    """Trained weights that a perceptual network needs are not on this machine; the message says what to do."""


def read_package_weights(package, name, distribution):
    """State dict in the file ``name`` of an installed package, without importing that package."""
    spec = importlib.util.find_spec(package)
    try:
        if spec is None:
            raise FileNotFoundError(f'the package {package} is not installed')
        resource = importlib.resources.files(importlib.util.module_from_spec(spec)).joinpath(name)
        with resource.open('rb') as file:
            return torch.load(file, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise PerceptualWeightsMissing(f'{package}/{name}: {error}; pip install {distribution}') from error


def read_weights(path):
    """Read a state dict from a file; SettingError with the path if the file holds none."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SettingError(f'{path} is damaged or not a file of weights: {error}') from error
    if not isinstance(state, dict):
        raise SettingError(f'{path} holds a {type(state).__name__}, not a state dict')
    return state


def find_trunk(name, trunk_weights=None):
    """Path of torchvision's weights ``name``; see `find_weights`."""
    return find_weights(DOWNLOAD_FOLDER + name, trunk_weights, 'LPIPS needs the trunk weights', 'trunk_weights',
                        'STLPIPS works without a download.')


def find_weights(url, given, need, option, hint=''):
    """Path of a file of weights: ``given``, else the one in torch.hub's folder.

    If it is in neither place, rank 0 tries to download it. If torch.distributed is initialised, every rank must call
    this function.

    Args:
        url (str): where the file is published; its name ends in the first digits of its SHA-256.
        given (str | None): the user's own path.
        need, hint (str): begin and end of the error.
        option (str): setting that ``given`` comes from.

    Raises:
        PerceptualWeightsMissing: there is no such file, and the download failed.
    """
    name = url.rpartition('/')[2]
    path = in_hub = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if given is not None:
        path, reason = Path(given).expanduser(), 'no such file'
    else:
        failed = of_main(_download(url, path) if is_main() and not path.is_file() else None)
        reason = failed or 'rank 0 found it, but another rank did not'
    if not path.is_file():
        raise PerceptualWeightsMissing(
            f"{need} {path} ({reason}). Fetch {url} elsewhere and put it at {in_hub}, or name the file with "
            f"{option}='/path/to/{name}'. {hint}".rstrip())
    return path


def _download(url, path):
    """Download to ``path``. Returns None, or in one line why it failed; torch.hub writes the file atomically."""
    sha256_start = path.stem.rpartition('-')[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(CONNECT_TIMEOUT_S):
            torch.hub.download_url_to_file(url, path, sha256_start)
    except (OSError, HTTPException, RuntimeError) as error:  # no network or disk, a broken line, a wrong hash
        return f'download failed: {" ".join(str(error).split())}'
    return None


@contextlib.contextmanager
def _socket_timeout(timeout_s):
    # torch.hub calls urlopen without a timeout; this default then limits the connection and each read.
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        yield
    finally:
        socket.setdefaulttimeout(former)
