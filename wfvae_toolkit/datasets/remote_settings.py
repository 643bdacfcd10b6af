"""Settings of data by URL."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..utils.errors import SettingError, UnknownSetting, is_number
from .block_cache import BLOCK

_SECRET = re.compile(r'secret|token|passw|credential|authorization|cookie|^key$|_key$|access_key', re.IGNORECASE)


@dataclass
class RemoteSettings:
    """Settings of data by URL."""

    cache_folder: str | Path | None = None  # None: wfvae_toolkit in $XDG_CACHE_HOME or ~/.cache
    cache_gb: float = 10  # its largest size; it should hold the files of a shuffle_window
    deadline_s: float = 300  # a read that gets nothing for so long ends the run
    read_ahead_mb: float = 8  # loaded at a time where a file is read in stretches; 0: only what is needed
    storage_options: dict = field(default_factory=dict)  # of fsspec's file system: anon, endpoint_url, profile, ...

    def __post_init__(self):
        if not is_number(self.deadline_s, 0.1, 10**6):
            raise SettingError(f'remote.deadline_s={self.deadline_s!r}: use seconds, such as 300')
        if not is_number(self.cache_gb, 0.05, 10**9):
            raise SettingError(f'remote.cache_gb={self.cache_gb!r}: use GB, at least 0.05')
        if not is_number(self.read_ahead_mb, 0, 125 * self.cache_gb):
            raise SettingError(f'remote.read_ahead_mb={self.read_ahead_mb!r}: use MB from 0 to an eighth of the cache')
        self.cache_bytes = int(self.cache_gb * 1e9)
        self.ahead_blocks = -(-int(self.read_ahead_mb * 1e6) // BLOCK)
        if not isinstance(self.storage_options, dict):
            raise SettingError(f'remote.storage_options={self.storage_options!r}: use a dict, such as dict(anon=True)')
        secret = _secret_key(self.storage_options)
        if secret:
            raise SettingError(f'remote.storage_options: {secret} may hold a credential, and configs are copied into '
                               'checkpoints and reports: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE '
                               'or ~/.aws for S3, and ~/.netrc for HTTP')
        cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
        self.folder = Path(self.cache_folder or f'{cache}/wfvae_toolkit').expanduser()


def _secret_key(options):
    """Name of the first key, at any depth, that may hold a credential."""
    for key, value in options.items():
        if _SECRET.search(str(key)):
            return key
        if isinstance(value, dict) and _secret_key(value):
            return _secret_key(value)
    return None


def remote_settings(remote):
    """`RemoteSettings` of a dict or None; UnknownSetting for another key."""
    try:
        return RemoteSettings(**(remote or {}))
    except TypeError as error:
        names = ', '.join(RemoteSettings.__dataclass_fields__)
        raise UnknownSetting(f'remote={remote!r}: use a dict with some of {names}') from error
