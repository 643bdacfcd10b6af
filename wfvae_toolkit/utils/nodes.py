"""The nodes of a config's schema, and the check of a config against them."""

import contextlib
import difflib
import functools
import inspect
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from wfvae_toolkit.registry import BY_NAME, find_part, is_own, registered_names

from . import conventions
from .errors import SettingError, UnknownSetting, UserError, located
from .kinds import describe, fits, misfit_of, parameters_of, takes_any_name

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Value:
    """A plain value of one of ``kinds`` (types and constants; None: anything); ``default`` if the key is absent."""

    kinds: tuple | None
    default: Any = None
    example: Any = None

    def misfit(self, value):
        return None if fits(value, self.kinds) or value == self.default else describe(self.kinds, self.example)


@dataclass(frozen=True)
class Setting:
    """A parameter of a part."""

    parameter: inspect.Parameter
    by_default: bool = True

    @property
    def default(self):
        return self.parameter.default

    def misfit(self, value):
        return misfit_of(value, self.parameter, self.by_default)


@dataclass(frozen=True)
class Fields:
    """A dict of fixed keys, name -> node. The error for another value shows ``example``; ``or_value``: other types."""

    members: dict
    example: str
    or_value: tuple = (type(None),)
    default: Any = None

    def misfit(self, value):
        return None if fits(value, (dict, *self.or_value)) else f'use {self.example}'


@dataclass(frozen=True)
class Arguments:
    """A dict of arguments for the callable at a dotted path; its caller passes some of them itself."""

    path: str
    passed: tuple = ()
    example: str = 'dict()'
    default: Any = None

    def misfit(self, value):
        return None if fits(value, (dict, type(None))) else f'use {self.example}'


@dataclass(frozen=True)
class Rows:
    """A dict of named rows, each a ``node`` or None."""

    node: Any
    default: Any = None

    def misfit(self, value):
        return None if fits(value, (dict, type(None))) else 'use a dict of named rows, each a dict or None'


@dataclass(frozen=True)
class Items:
    """A list of ``node``."""

    node: Any
    default: Any = None

    def misfit(self, value):
        good = isinstance(value, (list, tuple)) or value is None is self.default
        return None if good else "a list is needed, such as [dict(type='Name', ...)]"


@dataclass(frozen=True)
class Part:
    """``dict(type='Name', ...)`` of a registry's part; ``extra`` are keys that the owner reads, name -> node.

    ``base`` is the dotted path of a class; the part must be that class or a child of it.
    """

    registry: Any
    extra: dict = field(default_factory=dict)
    example: str = "dict(type='Name', ...)"
    base: str | None = None
    default: Any = None

    def misfit(self, value):
        if isinstance(value, dict) and 'type' not in value:
            near = difflib.get_close_matches('type', value, n=1)
            return f'did you mean type by {near[0]}?' if near else f'type is missing; use {self.example}'
        return None if isinstance(value, dict) or value is None is self.default else f'use {self.example}'


@dataclass(frozen=True)
class Name:
    """Only the name of a part in a registry, without settings."""

    registry: Any
    default: Any = None

    def misfit(self, value):
        if not isinstance(value, str):
            return None if value is None else 'a text is needed'
        return None if find_part(value, self.registry) else None


@dataclass(frozen=True)
class Schema:
    """The tables of ``wfvae_toolkit/schema.py``, and the questions about a config that they answer.

    Attributes:
        sections (dict): top-level key -> node.
        parts (dict): name of a parameter, of any part -> node of the part that it holds.
    """

    sections: dict
    parts: dict

    def check(self, cfg):
        """See `check_config`."""
        self.check_sections(cfg)
        self._check(self._root, cfg, '', cfg)

    def check_sections(self, cfg):
        """The part of the check that imports no part: top-level keys, and ``custom_imports``."""
        for key in cfg:
            if key not in self.sections:
                raise self._unknown(key, '', self.sections, cfg)
        if 'custom_imports' in cfg:
            self._check(self.sections['custom_imports'], cfg['custom_imports'], 'custom_imports', cfg)

    def check_removed(self, cfg, paths):
        """See `check_removed` of ``schema.py``."""
        for path in paths:
            parent, _, name = path.rpartition('.')
            if parent and isinstance(self.node_at(cfg, parent), Rows):
                rows = cfg
                for key in parent.split('.'):
                    rows = rows[int(key) if isinstance(rows, (list, tuple)) else key]
                raise self._unknown(name, parent, rows, cfg)

    def effective(self, cfg):
        """See `effective_settings`."""
        return dict(self._effective(self._root, cfg, ''))

    def node_at(self, cfg, path):
        """The node of a dotted path; None where the config has no such place."""
        node, value, place = self._root, cfg, ''
        for name in path.split('.'):
            if isinstance(node, Items):
                node = node.node
            elif not isinstance(value, dict) or isinstance(node, Part) and 'type' not in value:
                return None
            else:
                members, other = self.members(node, value, place)
                node = members.get(name, other)
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, (list, tuple)) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            place = f'{place}.{name}' if place else name
        return node

    def members(self, node, value, path):
        """(name -> node, node of any other name or None) for the dict ``value`` at ``node``."""
        if isinstance(node, Fields):
            return node.members, None
        if isinstance(node, Rows):
            return {}, node.node
        if isinstance(node, Arguments):
            return self._settings(_by_path(node.path), node.passed, value), None
        if isinstance(node, Part):
            part = _part_of(node, value, path)
            settings = self._settings(part, node.registry.context, value)
            return {'type': Value(None, REQUIRED), **node.extra, **settings}, (
                Value(None) if takes_any_name(part) else None)
        return {}, Value(None)

    @property
    def _root(self):
        return Fields(self.sections, 'a config')

    def _settings(self, part, passed, value):
        return {name: self._of_parameter(part, parameter, value.get(name))
                for name, parameter in parameters_of(part).items()
                if name not in passed and parameter.kind is not parameter.VAR_KEYWORD}

    def _of_parameter(self, part, parameter, value):
        """Node of a parameter: the one in ``parts``, unless the default is a plain value."""
        own, node = is_own(part), self.parts.get(parameter.name)
        if isinstance(parameter.default, (str, int, float)):
            return Setting(parameter, own)
        if node is not None and (own or isinstance(value, (dict, list, tuple))):
            return replace(node, default=parameter.default)
        if isinstance(value, dict) and isinstance(value.get('type'), str):
            # A parameter that is not in the table, of another package's part: use the one registry that has the name.
            holders = [registry for registry in BY_NAME.values() if value['type'] in registered_names(registry)]
            if len(holders) == 1:
                return Part(holders[0], default=parameter.default)
        return Setting(parameter, own)

    def _check(self, node, value, path, cfg):
        with located(path):
            if misfit := node.misfit(value):
                raise SettingError(f'{_short(value)}: {conventions.of_key(path) or misfit}')
        if isinstance(node, Items) and isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                self._check(node.node, item, f'{path}.{number}', cfg)
        if not _has_members(node, value):
            return
        members, other = self.members(node, value, path)
        for key, item in value.items():
            nameless = isinstance(node, Rows) and isinstance(item, dict) and 'type' not in item and (
                difflib.get_close_matches(key, value.keys() - {key}))
            if key not in members and (other is None or nameless):
                part = getattr(_part_of(node, value, path), '__name__', '') if isinstance(node, Part) else ''
                raise self._unknown(key, path, {**value, key: None} if nameless else members, cfg, part)
        offered = node.registry.offers if isinstance(node, Part) else ()
        for key, child in members.items():
            if child.default is REQUIRED and key not in value and key not in offered:
                with located(path):
                    raise UnknownSetting(f'{key} is missing; the settings are {", ".join(members)}')
        for key, item in value.items():
            if not (isinstance(node, Rows) and item is None):
                self._check(members.get(key, other), item, f'{path}.{key}' if path else str(key), cfg)

    def _unknown(self, key, parent, members, cfg, part=''):
        """UnknownSetting for a key that nothing reads: what to use in its place, or the nearest key."""
        path = f'{parent}.{key}' if parent else str(key)
        foreign = conventions.of_key(path, part)
        error = UnknownSetting(f'nothing reads it here; {foreign}' if foreign else
                               self._nearest(key, parent, members, cfg))
        error.key, error.place = path, path if foreign else ''
        return error

    def _nearest(self, key, parent, members, cfg):
        said, inside = f'{parent or "the config"} has no {key}', f'{parent}.' if parent else ''
        same = [path for path in self._paths(cfg) if path.rpartition('.')[2] == key]
        above = parent.rpartition('.')[0]
        # Look for the key one level lower or higher, then for a similar key, then for the key at any place.
        moved = [path for path in same if path.rpartition('.')[0] == above or (
            path.startswith(inside) and path.count('.') == inside.count('.') + 1)]
        near = difflib.get_close_matches(str(key), members.keys() - {key}, n=1, cutoff=0.6)
        for found in (moved, [inside + name for name in near], same):
            if found:
                return f'{said}; did you mean {min(found, key=len)}?'
        return f'{said}; it has {", ".join(sorted(members.keys() - {"type"})) or "no settings"}'

    def _paths(self, cfg):
        """Dotted paths of all settings and of the dicts around them; a section with an error gives only the first."""
        paths = {}
        for section, node in self.sections.items():
            with contextlib.suppress(UserError):
                for leaf, _ in self._effective(node, cfg.get(section, node.default), section):
                    names = leaf.split('.')
                    paths.update(dict.fromkeys('.'.join(names[:depth]) for depth in range(1, len(names) + 1)))
        return list(paths)

    def _effective(self, node, value, path):
        if isinstance(node, Items) and isinstance(value, (list, tuple)) and value:
            for number, item in enumerate(value):
                yield from self._effective(node.node, item, f'{path}.{number}')
        elif _has_members(node, value):
            members, other = self.members(node, value, path)
            for name in [*members, *(key for key in value if other and key not in members)]:
                child = members.get(name, other)
                item = value.get(name, child.default)
                if item is not REQUIRED:
                    yield from self._effective(child, item, f'{path}.{name}' if path else name)
        else:
            yield path, _plain(value)


def _has_members(node, value):
    return isinstance(value, dict) and not isinstance(node, (Value, Setting, Items)) and not (
        isinstance(node, Part) and 'type' not in value)


def _part_of(node, value, path):
    name = value['type']
    with located(path):
        if isinstance(name, str):
            name = find_part(name, node.registry)
        if not callable(name):
            raise UnknownSetting(f'{name!r}: the name of a registered {node.registry.name} is needed')
        if refused := conventions.of_part(name):
            raise SettingError(f"MMEngine's {name.__name__} is not used here; {refused}")
        if node.base and not (isinstance(name, type) and issubclass(name, _by_path(node.base))):
            base = node.base.rpartition('.')[2]
            raise SettingError(f'{value["type"]!r}: {base!r} or a child of it is needed')
        return name


@functools.cache
def _by_path(path):
    module, _, name = path.rpartition('.')
    return getattr(import_module(module), name)


def _short(value):
    text = repr(value)
    return text if len(text) < 100 else f'{text[:100]}...'


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f'{value.__module__}.{value.__qualname__}' if callable(value) else value
