"""What stands where in a config: the nodes that a schema is made of, and the check of a config against them."""

import difflib
import fnmatch
import inspect
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from wfvae_toolkit.registry import BY_NAME, find_part, is_own

from .errors import SettingError, UnknownName, UnknownSetting, located
from .kinds import describe, fits, misfit_of, parameters_of, takes_any_name

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Value:
    """A plain value of one of ``kinds`` (types and constants; None: anything); ``default`` where it is absent."""

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
    """A dict of fixed keys, name -> node; ``example`` is shown where it is no dict; ``or_value`` are other kinds."""

    members: dict
    example: str
    or_value: tuple = (type(None),)
    default: Any = None

    def misfit(self, value):
        return None if fits(value, (dict, *self.or_value)) else f'use {self.example}'


@dataclass(frozen=True)
class Arguments:
    """A dict of arguments of the callable ``name`` of a module, some of which its caller passes."""

    module: str
    name: str
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
    """``dict(type='Name', ...)`` of a registry's part; ``extra`` are keys that the owner reads, name -> node."""

    registry: Any
    extra: dict = field(default_factory=dict)
    default: Any = None

    def misfit(self, value):
        good = isinstance(value, dict) and 'type' in value or value is None is self.default
        return None if good else f"a {self.registry.name} is needed: dict(type='Name', ...)"


@dataclass(frozen=True)
class Name:
    """The name of a registry's part alone."""

    registry: Any
    default: Any = None

    def misfit(self, value):
        return None if value is None or callable(find_part(value, self.registry)) else 'a name is needed'


@dataclass(frozen=True)
class Schema:
    """The tables of ``wfvae_toolkit/schema.py``, and what can be asked of them.

    Attributes:
        sections (dict): top-level key -> node.
        parts (dict): name of a parameter, of any part -> node of the part that it holds.
        foreign (dict): pattern of a dotted key -> what to use in its place; the first that matches is shown.
    """

    sections: dict
    parts: dict
    foreign: dict

    def check(self, cfg):
        """See `check_config`."""
        self._check(self._root, cfg, '', cfg)

    def check_sections(self, cfg):
        """The part of the check that imports no part: top-level keys, and ``custom_imports``."""
        for key in cfg:
            if key not in self.sections:
                raise self._unknown(key, '', self.sections, cfg)
        if 'custom_imports' in cfg:
            self._check(self.sections['custom_imports'], cfg['custom_imports'], 'custom_imports', cfg)

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
        """(name -> node, node of any other name or None) for a dict that stands on ``node``."""
        if isinstance(node, Fields):
            return node.members, None
        if isinstance(node, Rows):
            return {}, node.node
        if isinstance(node, Arguments):
            called = getattr(import_module(node.module), node.name)
            return self._settings(called, node.passed, value), None
        if isinstance(node, Part):
            part = _part_of(node, value, path)
            settings = self._settings(part, node.registry.context, value)
            return {'type': Value(None, REQUIRED), **settings, **node.extra}, (
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
        """Node of a parameter: that of ``parts``, unless the default shows a plain value."""
        own, node = is_own(part), self.parts.get(parameter.name)
        if isinstance(parameter.default, (str, int, float)):
            return Setting(parameter, own)
        if node is not None and (own or isinstance(value, (dict, list, tuple))):
            return replace(node, default=parameter.default)
        if isinstance(value, dict) and isinstance(value.get('type'), str):
            for registry in BY_NAME.values():
                try:
                    find_part(value['type'], registry)
                except UnknownName:
                    continue
                return Part(registry, default=parameter.default)
        return Setting(parameter, own)

    def _check(self, node, value, path, cfg):
        with located(path):
            if misfit := node.misfit(value):
                raise SettingError(f'{value!r}: {self._foreign(path) or misfit}')
        if isinstance(node, Items) and isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                self._check(node.node, item, f'{path}.{number}', cfg)
        if not isinstance(value, dict) or isinstance(node, (Value, Setting, Items)):
            return
        members, other = self.members(node, value, path)
        for key, item in value.items():
            child = members.get(key, other)
            if child is None:
                raise self._unknown(key, path, members, cfg)
            if not (isinstance(node, Rows) and item is None):
                self._check(child, item, f'{path}.{key}' if path else str(key), cfg)
        offered = node.registry.offers if isinstance(node, Part) else ()
        for key, child in members.items():
            if child.default is REQUIRED and key not in value and key not in offered:
                with located(path):
                    raise UnknownSetting(f'{key} is missing; the settings are {", ".join(members)}')

    def _unknown(self, key, parent, members, cfg):
        """UnknownSetting for a key that nothing reads: what to use in its place, or the nearest key."""
        path = f'{parent}.{key}' if parent else str(key)
        foreign = self._foreign(path)
        error = UnknownSetting(f'nothing reads it here; {foreign}' if foreign else
                               self._nearest(key, parent, members, cfg))
        error.key, error.place = path, path if foreign else ''
        return error

    def _foreign(self, path):
        return next((sentence for pattern, sentence in self.foreign.items() if fnmatch.fnmatchcase(path, pattern)),
                    None)

    def _nearest(self, key, parent, members, cfg):
        said, inside = f'{parent or "the config"} has no {key}', f'{parent}.' if parent else ''
        near = difflib.get_close_matches(str(key), members, n=1, cutoff=0.6)
        if near:
            return f'{said}; did you mean {inside}{near[0]}?'
        # A key that stands one level too high or too low.
        section = parent.partition('.')[0]
        moved = [known for known in self._paths(cfg) if known.rpartition('.')[2] == key
                 and (not section or known.partition('.')[0] == section)]
        if moved:
            return f'{said}; did you mean {min(moved, key=len)}?'
        return f'{said}; it has {", ".join(sorted(set(members) - {"type"})) or "no settings"}'

    def _paths(self, cfg):
        known = {key: value for key, value in cfg.items() if key in self.sections}
        try:
            return list(self.effective(known))
        except (UnknownName, UnknownSetting, AttributeError):
            return []

    def _effective(self, node, value, path):
        if isinstance(node, Items) and isinstance(value, (list, tuple)) and value:
            for number, item in enumerate(value):
                yield from self._effective(node.node, item, f'{path}.{number}')
        elif isinstance(value, dict) and not isinstance(node, (Value, Setting, Items)):
            members, other = self.members(node, value, path)
            for name in [*members, *(key for key in value if other and key not in members)]:
                child = members.get(name, other)
                item = value.get(name, child.default)
                if item is not REQUIRED:
                    yield from self._effective(child, item, f'{path}.{name}' if path else name)
        else:
            yield path, _plain(value)


def _part_of(node, value, path):
    name = value['type']
    with located(f'{path}.type'):
        if isinstance(name, str):
            return find_part(name, node.registry)
        if callable(name):
            return name
        raise UnknownSetting(f'{name!r}: expected the name of a registered {node.registry.name}')


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f'{value.__module__}.{value.__qualname__}' if callable(value) else value
