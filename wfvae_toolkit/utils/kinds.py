"""The settings of a part and their types, read from its signature."""

import ast
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import SettingError, is_number, located

_NAMES = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'a text', list: 'a list',
          dict: 'a dict', Path: 'a path', type(None): 'None'}


@functools.cache
def parameters_of(part):
    """Name -> inspect.Parameter of a class or function, with annotations as objects where they can be evaluated.

    If ``__init__`` passes ``**kwargs`` to its parent, the parent's parameters replace it. Any other ``**kwargs`` stays
    in the dict: the part then takes any name. A part written in C without a signature takes any name too.
    """
    found = {}
    if getattr(getattr(part, '__init__', None), '__qualname__', '') == 'Module.__init__':
        return found  # torch's signature takes any name, only to raise an error
    for parameter in _signature(part).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and (parent := _parent_that_gets(part, parameter.name)):
            cls, given = parent
            inherited = {name: value for name, value in parameters_of(cls).items() if name not in given}
            found = {**inherited, **found}
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[parameter.name] = parameter
    return found


def takes_any_name(part):
    """Whether a part has a ``**kwargs`` of its own."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters_of(part).values())


def _signature(part):
    try:
        return inspect.signature(part, eval_str=True)
    except ValueError:  # written in C
        return inspect.signature(lambda **settings: None)
    except (NameError, TypeError, AttributeError):  # an annotation uses a name that is not imported
        return inspect.signature(part)


def _parent_that_gets(part, name):
    """(parent class, arguments that it is given by name) if ``part.__init__`` calls it with ``**name``, else None."""
    if not (inspect.isclass(part) and '__init__' in vars(part)):
        return None
    parent = next(base for base in part.__mro__[1:] if '__init__' in vars(base))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(part.__init__)))
    except (OSError, TypeError, SyntaxError):  # typed in at a prompt, or generated
        return None
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == 'super().__init__':
            keywords = {keyword.arg or ast.unparse(keyword.value) for keyword in call.keywords}
            if name in keywords:
                positional = list(parameters_of(parent))[:len(call.args)]
                return parent, {*keywords, *positional}
    return None


def kinds_of(parameter, by_default=True):
    """Types and constants that a parameter accepts, from its annotation, else from its default; None: anything.

    A default of None says nothing about the type. ``by_default=False`` uses only the annotation: a part of another
    package may accept 'auto' where its default is a number.
    """
    if parameter.annotation is not parameter.empty:
        return _of_annotation(parameter.annotation)
    default = parameter.default
    if not by_default or default is parameter.empty or default is None:
        return None
    for kind in (bool, int, float, str):
        if type(default) is kind:
            return (kind,)
    return (list,) if isinstance(default, (list, tuple)) else (dict,) if isinstance(default, dict) else None


def _of_annotation(annotation):
    if annotation is None:
        return (type(None),)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [_of_annotation(argument) for argument in arguments]
        return None if None in kinds else tuple(dict.fromkeys(kind for group in kinds for kind in group))
    if origin is typing.Literal:
        return arguments
    kind = origin or annotation
    if not isinstance(kind, type) or kind is object:
        return None
    if kind is Path:
        return (str, Path)
    if kind in _NAMES:
        return (kind,)
    if issubclass(kind, (list, tuple, set)) or kind is Sequence:
        return (list,)
    if issubclass(kind, dict) or kind is Mapping:
        return (dict,)
    # A config cannot hold an object of another class, only the dict from which it is built.
    return None if kind.__module__ in ('typing', 'collections.abc') else (dict,)


def fits(value, kinds):
    """Whether a value has one of the types or equals one of the constants in ``kinds``."""
    return kinds is None or any(_is(value, kind) for kind in kinds)


def _is(value, kind):
    if not isinstance(kind, type):
        return type(value) is type(kind) and value == kind
    if kind in (int, float):
        return is_number(value, whole=kind is int)
    return isinstance(value, (list, tuple) if kind is list else kind)


def describe(kinds, example=None):
    """'a number is needed, such as 0.5'."""
    if Path in kinds:
        kinds = [kind for kind in kinds if kind is not str]
    texts = [_NAMES[kind] if kind in _NAMES else repr(kind) for kind in kinds
             if (kind in _NAMES or not isinstance(kind, type)) and (kind is not dict or len(kinds) == 1)]
    such_as = '' if example is None or isinstance(example, bool) else f', such as {_as_text(example)}'
    if texts == [_NAMES[bool]]:
        return texts[0]
    return f'{" or ".join(texts)} is needed{such_as}'


def _as_text(example):
    return list(example) if isinstance(example, (list, tuple)) else repr(example)


def check_kinds(part, settings, by_default=True):
    """SettingError for the first setting whose value does not fit its annotation or the type of its default."""
    parameters = parameters_of(part)
    for name, value in settings.items():
        misfit = misfit_of(value, parameters[name], by_default) if name in parameters else None
        if misfit:
            with located(name):
                raise SettingError(f'{value!r}: {misfit}')


def misfit_of(value, parameter, by_default=True):
    """Text that says what the parameter needs, or None if the value fits. The default always fits."""
    kinds, default = kinds_of(parameter, by_default), parameter.default
    if fits(value, kinds) or (type(value) is type(default) and value == default):
        return None
    return describe(kinds, None if default is parameter.empty else default)
