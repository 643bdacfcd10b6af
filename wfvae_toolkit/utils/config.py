"""Find and read configs, inherit from packages, apply command-line options, and check that every key is used."""

import difflib
import importlib.util
from pathlib import Path

from .config_file import base_entries, merge, read_config_file
from .errors import MissingFile, MissingLibrary, UnknownName, UserError


def load_config(path, options=None):
    """Read a config and its bases, and check every key of the config and of the options.

    Args:
        path (str | Path): a file, or ``package::file.py`` for a config that an installed package ships.
            ``_base_`` entries take both forms.
        options (dict): dotted key -> value. The value replaces the old one; dicts and lists are not merged.

    Returns:
        mmengine.Config: plain data, without helper variables. The modules of ``custom_imports`` are imported.

    Raises:
        MissingFile: no such file or package; the message lists those that exist.
        SettingError: a file that cannot be read, or a value of the wrong type.
        UnknownSetting, UnknownName: an unknown key or name; the message names the nearest one.
    """
    from mmengine.config import Config

    from wfvae_toolkit.schema import SECTIONS, check_config, check_removed, check_sections

    from .plugins import load_plugins

    load_plugins()
    path = find_config(path)
    source = read_config_file(path, SECTIONS, _find_base)
    cfg, options = source.values, dict(options or {})
    check_sections(cfg)  # before torch is imported
    _import_modules(cfg.get('custom_imports'))
    removed = source.removed
    for key, value in options.items():
        if not _assign(cfg, key, value, options) and value in (None, 'none'):
            removed.append(key)
    if any(key.partition('.')[0] == 'custom_imports' for key in options):
        _import_modules(cfg.get('custom_imports'))
    try:
        _say_none(cfg, options)
        check_config(cfg)
        check_removed(cfg, removed)
    except UserError as error:
        _blame(error, options)
        raise
    return Config(cfg, cfg_text=source.text, filename=path)


def _find_base(entry, folder):
    return find_config(entry if '::' in entry else folder / Path(entry).expanduser())


def _import_modules(custom_imports):
    from mmengine.utils import import_modules_from_strings

    try:
        import_modules_from_strings(**(custom_imports or dict(imports=None)))
    except ImportError as error:
        # MMEngine's error names only the module. The error that caused it gives the reason.
        raise MissingLibrary(f'custom_imports: {error}: {error.__context__}; put its folder on PYTHONPATH, or '
                             'install its package') from error


def find_config(path):
    """``file.py`` or ``package::file.py`` -> path of an existing file, as a string."""
    package, separator, name = str(path).rpartition('::')
    if not separator:
        path = Path(path).expanduser()
        if path.is_dir():
            there = ', '.join(sorted(file.name for file in path.glob('*.py')))
            raise MissingFile(f'{path} is a folder; name a config file' + (f' in it: {there}' if there else ''))
        if not path.is_file():
            name = path.name
            shipped = (configs_folder('wfvae_toolkit') / name).is_file()
            raise MissingFile(f'no config file {path}' + (f'; there is wfvae_toolkit::{name}' if shipped else ''))
        return str(path)
    folder = configs_folder(package)
    if not (folder / name).is_file():
        there = ', '.join(sorted(str(file.relative_to(folder)) for file in folder.rglob('*.py')))
        raise MissingFile(f'{package} ships no config {name}; there are: {there}')
    return str(folder / name)


def shipped_config(path):
    """The nearest configs of the toolkit that a config file is or inherits -> (their paths, their merged settings)."""
    from wfvae_toolkit.schema import SECTIONS

    shipped, settings = configs_folder('wfvae_toolkit').resolve(), {}
    paths, waiting = [], [path]
    while waiting:
        found = Path(waiting.pop(0))
        if not found.resolve().is_relative_to(shipped):
            waiting += [_find_base(entry, found.parent) for entry in base_entries(found)]
        elif found.resolve() not in paths:
            paths.append(found.resolve())
            settings = merge(settings, read_config_file(found, SECTIONS, _find_base).values)
    return paths, settings


def configs_folder(package):
    """The folder ``configs`` inside an installed package, or next to the package in a checkout."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of `absent.inner`
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingFile(f'{package}:: names a package that is not installed')
    root = Path(next(iter(spec.submodule_search_locations)))
    for folder in (root / 'configs', root.parent / 'configs'):
        if folder.is_dir():
            return folder
    raise MissingFile(f'package {package} has no configs folder')


def _assign(cfg, key, value, options):
    """Put a value at a dotted key; returns whether the key existed.

    A row on the way that is None or new becomes a dict, if the options give its type.

    Raises:
        UnknownName: the key leads into a plain value, past the end of a list, or to a row without a type.
    """
    from wfvae_toolkit.schema import needs_type

    *path, last = key.split('.')
    node, place = cfg, ''
    for part in path:
        child, place = _child(node, part, place, key), f'{place}.{part}' if place else part
        if not isinstance(child, (dict, list, tuple, type(None))):
            raise UnknownName(f'--cfg-options {key}: {place} is {child!r}, which has no parts')
        if not isinstance(child, (dict, list)):
            if child is None and needs_type(cfg, place) and f'{place}.type' not in options:
                known = isinstance(node, list) or part in node
                parent = place.rpartition('.')[0]
                what = f'{place} is None' if known else f'{parent} has no {part}'
                near = [] if known else difflib.get_close_matches(part, node, n=1)
                advice = f'did you mean {parent}.{near[0]}?' if near else f'give {place}.type as well'
                raise UnknownName(f'--cfg-options {key}: {what}; {advice}')
            child = list(child) if isinstance(child, tuple) else {}
            node[int(part) if isinstance(node, list) else part] = child
        node = child
    _child(node, last, place, key)
    last = int(last) if isinstance(node, list) else last
    was_there = isinstance(node, list) or last in node
    node[last] = value
    return was_there


def _child(node, part, place, key):
    """The child ``part`` of a dict or list; None where a dict has none yet."""
    if isinstance(node, dict):
        return node.get(part)
    if part.isdigit() and int(part) < len(node):
        return node[int(part)]
    raise UnknownName(f'--cfg-options {key}: {place} has no {part}; it has 0 to {len(node) - 1}')


def _say_none(cfg, options):
    """``none`` on a command line means None, unless the setting takes a text, such as a discriminator's norm='none'."""
    from wfvae_toolkit.schema import takes_text

    for key, value in options.items():
        if value == 'none' and not takes_text(cfg, key):
            _assign(cfg, key, None, options)


def _blame(error, options):
    """Say which option an error is about, if it is about one."""
    place = getattr(error, 'key', '') or error.place
    for key in options:
        if key == place or key.startswith(f'{place}.') or place.startswith(f'{key}.'):
            if error.place == key:
                error.place = ''
            error.args, error.place = (f'--cfg-options {key}: {error}',), ''
            return
