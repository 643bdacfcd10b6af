"""Errors that the user can mend: a tool prints their message, without a traceback.

Raise one where the message says all that there is to know. Anything else that goes wrong is a bug, and keeps its
traceback.
"""

import importlib


class UserError(Exception):
    """Base of them; each is a built-in error as well."""

    # KeyError's own would print its message quoted, as a key.
    __str__ = Exception.__str__


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


class MissingLibrary(UserError, ImportError):
    """A package that cannot be imported here."""


def import_extra(package, extra=None):
    """The module ``package``; without it a MissingLibrary that names the extra to install (default: of its name)."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingLibrary(f"{package} is not installed: pip install 'wfvae_toolkit[{extra or package}]'") from error
