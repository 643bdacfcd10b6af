"""One config file with its bases -> a dict of plain values; see docs/configs.md for the rules."""

import ast
import copy
import math
import os
import re
import traceback
import types
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath

from .errors import MissingFile, SettingError, UserError

BASE, DELETE = '_base_', '_delete_'


@dataclass
class Source:
    """``values``: settings by top-level name; ``helpers``: variables that only the config files use.

    ``removed``: dotted keys that a child sets to None and that its bases do not have.
    """

    values: dict
    helpers: dict
    text: str
    removed: list


def read_config_file(path, known, find_base, chain=()):
    """Read a config file and its bases.

    Args:
        path (str): a Python file.
        known (collection of str): names of the sections. Their values become plain data.
        find_base (callable): (entry of ``_base_``, folder) -> path.
        chain (tuple of str): the files that inherit from this one.

    Returns:
        Source: with everything that is inherited.

    Raises:
        SettingError: the file cannot be read or run, or a value is not plain data; the message names file and line.
        MissingFile: a base does not exist.
    """
    if os.path.realpath(path) in map(os.path.realpath, chain):
        raise SettingError(f'{chain[-1]}: {BASE} leads back to {path}, which inherits from it')
    text = _read_text(path)
    code, base_vars = _substitute(text, path)
    tree = _parse(code, path)
    _refuse_lazy_style(tree, path)
    inherited, helpers, removed = {}, {}, []
    for entry, line in _base_entries(tree, path):
        try:
            base_path = find_base(entry, Path(path).parent)
        except MissingFile as error:
            raise MissingFile(f'{path}:{line}: {BASE}: {error}') from None
        base = read_config_file(base_path, known, find_base, (*chain, path))
        twice = sorted(inherited.keys() & base.values.keys())
        if twice:
            raise SettingError(f'{path}:{line}: two of its bases set {", ".join(twice)}; let one inherit '
                               'from the other')
        inherited, helpers = {**inherited, **base.values}, {**helpers, **base.helpers}
        removed += base.removed
    names = _Names(tree)
    own = {}
    for name, value in _run(tree, path, {**helpers, **inherited}).items():
        if name in known and not isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType)):
            own[name] = _plain(value, name, f'{path}:{names.lines.get(name, 1)}')
        elif names.is_helper(name) or isinstance(value, types.FunctionType):
            helpers[name] = value
        else:
            own[name] = value
    for name in (names.read_of_base | base_vars) - set(known):
        inherited.pop(name, None)  # a variable of the base that is used here
    if inherited:
        removed += _set_to_none(inherited, own, '')
    return Source(merge(inherited, own), helpers, text, removed)


def base_entries(path):
    """Entries of ``_base_`` in a config file, in order."""
    return [entry for entry, _ in _base_entries(_parse(_substitute(_read_text(path), path)[0], path), path)]


def merge(base, child):
    """Dicts of the child go into those of the base; any other value, or a dict with ``_delete_``, replaces it."""
    merged = dict(base)
    for name, value in child.items():
        if isinstance(value, dict):
            value = dict(value)
            delete = value.pop(DELETE, False)
            old = merged.get(name)
            value = merge(old if isinstance(old, dict) and not delete else {}, value)
        merged[name] = value
    return merged


def _set_to_none(base, child, path):
    """Dotted keys that a child's dict sets to None although the base's dict does not have them."""
    for name, value in child.items():
        if value is None and name not in base:
            yield f'{path}{name}'
        elif isinstance(value, dict) and isinstance(base.get(name), dict) and not value.get(DELETE):
            yield from _set_to_none(base[name], value, f'{path}{name}.')


class _Names(ast.NodeVisitor):
    """Which top-level names of a file are settings: those that it assigns and does not read itself."""

    def __init__(self, tree):
        self.lines, self.read, self.read_of_base = {}, set(), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.read.add(node.id)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == BASE:
                self.read_of_base.add(node.attr)
        self.visit(tree)

    def is_helper(self, name):
        return name.startswith('_') or name in self.read or name not in self.lines

    def visit_FunctionDef(self, node):
        """Skip the names inside: they are not top-level names."""

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_FunctionDef

    def visit_Assign(self, node):
        for target in node.targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    self.lines[name.id] = node.lineno

    def visit_AnnAssign(self, node):
        if isinstance(node.target, ast.Name):
            self.lines[node.target.id] = node.lineno


def _read_text(path):
    if Path(path).suffix != '.py':
        raise SettingError(f'{path}: a config is a Python file (.py), such as wfvae_toolkit::wfvae2_demo.py')
    try:
        return Path(path).read_text(encoding='utf-8-sig')  # editors of Windows begin a file with a mark
    except UnicodeDecodeError as error:
        raise SettingError(f'{path}: is not UTF-8 ({error.reason} at byte {error.start})') from None
    except OSError as error:
        raise MissingFile(f'{path}: cannot be read: {error.strerror}') from None


def _substitute(text, path):
    """MMEngine's ``{{ fileBasename }}``, ``{{ $VARIABLE:default }}`` and ``{{ _base_.key }}`` -> text and names."""
    file = Path(path)
    names = {'fileDirname': file.parent.as_posix(), 'fileBasename': file.name, 'fileBasenameNoExtension': file.stem,
             'fileExtname': file.suffix}
    for name, value in names.items():
        text = re.sub(r'\{\{\s*' + name + r'\s*\}\}', lambda _, value=value: value, text)

    def variable(match):
        name, default = match.groups()
        value = os.environ.get(name, default)
        if not value:
            line = text.count('\n', 0, match.start()) + 1
            raise SettingError(f'{path}:{line}: the environment has no {name}; set it, or give a default: '
                               f'{{{{${name}:value}}}}')
        return value

    text = re.sub(r'\{\{[\'"]?\s*\$(\w+)\s*:\s*(\S*?)\s*[\'"]?\}\}', variable, text)
    pattern = r'\{\{\s*' + BASE + r'\.([\w.]+)\s*\}\}'
    return re.sub(pattern, BASE + r'.\1', text), {key.partition('.')[0] for key in re.findall(pattern, text)}


def _parse(code, path):
    try:
        return ast.parse(code, str(path))
    except SyntaxError as error:
        shown = f': {error.text.strip()}' if error.text and error.text.strip() else ''
        raise SettingError(f'{path}:{error.lineno}: {error.msg}{shown}') from None
    except ValueError as error:  # a null byte
        raise SettingError(f'{path}: {error}') from None


def _refuse_lazy_style(tree, path):
    for node in ast.walk(tree):
        relative = isinstance(node, ast.ImportFrom) and node.level
        if relative or (isinstance(node, ast.Name) and node.id == 'read_base'):
            raise SettingError(f"{path}:{node.lineno}: MMEngine's lazy style is not read here; inherit by "
                               f"{BASE} = ['file.py'] and name a part by type='Name'")


def _base_entries(tree, path):
    """(entry of ``_base_``, line) in order; the assignment leaves the tree."""
    for node in list(tree.body):
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == BASE
                                                for target in node.targets):
            tree.body.remove(node)
            try:
                entries = ast.literal_eval(node.value)
            except ValueError:
                entries = None
            entries = [entries] if isinstance(entries, str) else entries
            if not (isinstance(entries, (list, tuple)) and all(isinstance(entry, str) for entry in entries)):
                raise SettingError(f'{path}:{node.lineno}: {BASE} = {ast.unparse(node.value)}: a file or a list of '
                                   "files is needed, such as ['wfvae_toolkit::wfvae2_demo.py']")
            return [(entry, node.lineno) for entry in entries]
    return []


def _run(tree, path, inherited):
    """Execute a file; -> its top-level names."""
    from mmengine.config import ConfigDict

    # The saved copy of a config writes infinity and NaN as inf and nan.
    given = {BASE: ConfigDict(copy.deepcopy(inherited)), '__file__': str(path), '__name__': Path(path).stem,
             'inf': math.inf, 'nan': math.nan}
    namespace = dict(given)
    try:
        exec(compile(tree, str(path), 'exec'), namespace)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the lines of a config raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise SettingError(f'{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}') from error
    return {name: value for name, value in namespace.items() if not name.startswith('__')
            and not (name in given and value is given[name])}


def _plain(value, key, place):
    """Convert to dicts, lists, tuples, texts, numbers, True, False and None; SettingError where this is impossible."""
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise SettingError(f'{place}: {key}: its key {name!r} is not a string')
        return {name: _plain(item, f'{key}.{name}', place) for name, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        items = [_plain(item, f'{key}.{number}', place) for number, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__module__ == 'numpy' and hasattr(value, 'tolist'):
        return _plain(value.tolist(), key, place)
    if key.endswith('.type') and callable(value) and _by_path(value):
        return f'{value.__module__}.{value.__qualname__}'
    raise SettingError(f'{place}: {key}: {value!r} is not a plain value; use a number, a string, True, False, None, '
                       'or a list or dict of them')


def _by_path(value):
    """Whether a class or function can be imported by its dotted path; a saved config holds only that path."""
    name, module = getattr(value, '__qualname__', ''), getattr(value, '__module__', None)
    try:
        return bool(module) and name.isidentifier() and getattr(import_module(module), name, None) is value
    except ImportError:
        return False
