"""Errors that the user can mend: a tool prints their message, without a traceback.

Raise one where the message says all that there is to know. Anything else that goes wrong is a bug, and keeps its
traceback.
"""

import contextlib
import importlib
import math


class UserError(Exception):
    """Base of them; each is a built-in error as well.

    Attributes:
        place (str): dotted key of the config that it is about, or ''; see `located`.
    """

    place = ''

    def __str__(self):
        # KeyError's own would print the message quoted, as a key.
        text = Exception.__str__(self)
        return f'{self.place}: {text}' if self.place else text


class SettingError(UserError, ValueError):
    """A setting that cannot work."""


class UnknownSetting(UserError, TypeError):
    """A part has no such setting, or one that it needs is missing."""


class UnknownName(UserError, KeyError):
    """Nothing has this name."""


class NameClash(UserError, KeyError):
    """Two things have the same name."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that was named and is not there."""


class NotFinite(UserError, RuntimeError):
    """NaN or infinity where a number is needed; the message names what went bad and what would work."""


class MissingLibrary(UserError, ImportError):
    """A package that cannot be imported here."""


@contextlib.contextmanager
def located(place):
    """A UserError from inside says where in the config it belongs; nested places are joined by dots."""
    try:
        yield
    except UserError as error:
        error.place = f'{place}.{error.place}' if error.place else place
        raise


def is_number(value, low=-math.inf, high=math.inf, whole=False):
    """Whether a setting is an int (or float, unless ``whole``) from ``low`` to ``high``: no bool, no NaN."""
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and low <= value <= high


def import_extra(package, extra=None):
    """The module ``package``; without it a MissingLibrary that names the extra to install (default: of its name)."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingLibrary(f"{package} is not installed: pip install 'wfvae_toolkit[{extra or package}]'") from error
