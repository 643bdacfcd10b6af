"""Errors that the user can fix: a tool prints their message, without a traceback.

Raise one where the message is all that the user needs. Any other error is a bug and keeps its traceback.
"""

import contextlib
import importlib
import math


class UserError(Exception):
    """Base class of these errors; each subclass is a built-in error as well.

    Attributes:
        place (str): dotted key of the config that the error is about, or ''; see `located`.
    """

    place = ''

    def __str__(self):
        # KeyError's own __str__ would print the message in quotes, like a key.
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
    """A file or folder that does not exist."""


class NotFinite(UserError, RuntimeError):
    """NaN or infinity where a number is needed; the message names the value and what would work."""


class StorageError(UserError, RuntimeError):
    """Data that cannot be reached, or that have changed while they were read; no picture is at fault.

    Not an OSError: where those make a picture a bad file, this one ends the run.
    """


class MissingLibrary(UserError, ImportError):
    """A package that cannot be imported here."""


@contextlib.contextmanager
def located(place):
    """Add the dotted key of the config to a UserError raised inside; nested keys are joined by dots."""
    try:
        yield
    except UserError as error:
        error.place = f'{place}.{error.place}' if error.place else place
        raise


def is_number(value, low=-math.inf, high=math.inf, whole=False):
    """Whether a setting is an int (or float, unless ``whole``) from ``low`` to ``high``; bool and NaN are not."""
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and low <= value <= high


def import_extra(package, extra=None):
    """Import ``package``; if it is missing, MissingLibrary names the extra to install (default: the package's name)."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingLibrary(f"{package} is not installed: pip install 'wfvae_toolkit[{extra or package}]'") from error
