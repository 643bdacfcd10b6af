"""Addresses of data in other places, and what of them may be shown."""

import re
from urllib.parse import urlsplit, urlunsplit

_SCHEME = re.compile(r'[a-z][a-z0-9+.-]+://', re.IGNORECASE)


def is_url(path):
    """Whether a text or path names data by URL, such as ``https://host/a.tar`` or ``s3://bucket/a.tar``."""
    return isinstance(path, str) and bool(_SCHEME.match(path))


def shown_url(path):
    """A URL without user, password, query and fragment, which may hold credentials; any other value unchanged."""
    if not is_url(path):
        return path
    try:
        parts = urlsplit(path)
        place = parts.netloc.rpartition('@')[2]
        return urlunsplit((parts.scheme, place, parts.path, '', ''))
    except ValueError:  # such as a bracket that is not closed
        return re.split(r'[?#]', path, maxsplit=1)[0].rpartition('@')[2]


class UrlFolder(str):
    """A URL to which ``/`` appends a name, as it does to a Path."""

    __slots__ = ()

    def __truediv__(self, name):
        return UrlFolder(f'{self.rstrip("/")}/{name}')
