"""Config files: where they are, how they inherit from packages, and which options they take."""

import contextlib
import difflib
import importlib.util
import inspect
from pathlib import Path

from .errors import MissingFile, MissingLibrary, UnknownName

# Dicts of named rows: a new name is a new row, if the options give its type as well.
_OPEN_ROWS = ('model.losses', 'val_evaluator.metrics', 'default_hooks', 'train_dataloader.dataset.sources',
              'val_dataloader.dataset.sources')
# Nodes without a type, known by a key that they always have, and what else they take.
_UNTYPED = {
    'optimizer': ['clip_grad', 'paramwise_cfg'],
    'batch_size': ['num_workers', 'shuffle', 'pin_memory', 'prefetch_factor', 'persistent_workers', 'timeout_s',
                   'max_images'],
}
_OPTIONAL_KEYS = ('custom_imports', 'custom_hooks', 'experiment_name', 'load_from', 'work_dir')


def load_config(path, options=None):
    """Read a config with everything that it inherits.

    Args:
        path (str | Path): a file, or ``package::file.py`` for a config that an installed package ships.
            ``_base_`` entries take both forms.
        options (dict): dotted key -> value; a value takes the place of what stood there, dicts and lists too.

    Returns:
        mmengine.Config: plain-text style; imports of ``custom_imports`` are done.

    Raises:
        FileNotFoundError: no such file or package; the message says what there is.
        KeyError: an option that the config does not know; the message names the nearest key.
    """
    from mmengine.config import Config

    from .plugins import load_plugins

    load_plugins()
    with _package_bases(Config):
        # lazy_import=False: auto-detection takes any `import os` for the other style.
        cfg = Config.fromfile(find_config(path), lazy_import=False, import_custom_modules=False)
    # Before the options: they are checked against the parts' settings.
    _import_modules(cfg.get('custom_imports'))
    if options:
        for key in options:
            check_option(cfg._cfg_dict, key, options)
        for key in options:
            _assign(cfg._cfg_dict, key.split('.'), options[key])
        if any(key.partition('.')[0] == 'custom_imports' for key in options):
            _import_modules(cfg.get('custom_imports'))
    return cfg


def _import_modules(custom_imports):
    from mmengine.utils import import_modules_from_strings

    try:
        import_modules_from_strings(**(custom_imports or dict(imports=None)))
    except ImportError as error:
        # MMEngine's error names the module; the reason is in the one that it met.
        raise MissingLibrary(f'custom_imports: {error}: {error.__context__}; put its folder on PYTHONPATH, or '
                             'install its package') from error


def find_config(path):
    """``file.py`` or ``package::file.py`` -> path of an existing file, as a string."""
    package, separator, name = str(path).rpartition('::')
    if not separator:
        if not Path(path).is_file():
            name = Path(path).name
            shipped = (configs_folder('wfvae_toolkit') / name).is_file()
            raise MissingFile(f'no config file {path}' + (f'; there is wfvae_toolkit::{name}' if shipped else ''))
        return str(path)
    folder = configs_folder(package)
    if not (folder / name).is_file():
        there = ', '.join(sorted(str(file.relative_to(folder)) for file in folder.rglob('*.py')))
        raise MissingFile(f'{package} ships no config {name}; there are: {there}')
    return str(folder / name)


def configs_folder(package):
    """The folder ``configs`` in an installed package, or beside it in a checkout."""
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


def check_option(cfg, key, options=()):
    """KeyError that names the nearest key, unless ``key`` is in ``cfg`` or a setting of the part it stands on."""
    node, parts = cfg, key.split('.')
    for depth, part in enumerate(parts):
        parent = '.'.join(parts[:depth])
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if isinstance(node, dict) and node.get(part, _ABSENT) is not _ABSENT and (
                node[part] is not None or depth == len(parts) - 1):
            node = node[part]
            continue
        known = _known_keys(node, top=depth == 0, new_type=dict(options).get(f'{parent}.type'))
        if isinstance(node, dict) and part in known and part not in node:
            return
        row = f'{parent}.{part}'
        if parent in _OPEN_ROWS and (f'{row}.type' in options or key == row):
            return
        near = difflib.get_close_matches(part, known, n=1, cutoff=0.0)
        hint = f'; did you mean {f"{parent}." if parent else ""}{near[0]}?' if near else ''
        if isinstance(node, dict) and part in node:
            hint = f': {row} is None; give {row}.type as well'
        raise UnknownName(f'--cfg-options {key}: {parent or "the config"} has no {part}{hint}')


def _assign(node, parts, value):
    *path, last = parts
    for part in path:
        child = node[int(part)] if isinstance(node, list) else node.get(part)
        if not isinstance(child, (dict, list)):
            child = list(child) if isinstance(child, tuple) else {}  # a row that is None or new
            _assign(node, [part], child)
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value


_ABSENT = object()


def _known_keys(node, top, new_type):
    """Keys of a config node and, if it names a part, the settings of that part."""
    if not isinstance(node, dict):
        return []
    known = list(node)
    if top:
        return [*known, *_OPTIONAL_KEYS]
    for mark, keys in _UNTYPED.items():
        if mark in node:
            known += keys
    if isinstance(name := new_type or node.get('type'), str):
        known += _settings(name)
    return known


def _settings(name):
    from wfvae_toolkit.registry import BY_NAME

    for registry in BY_NAME.values():
        cls = registry.get(name)
        if cls is not None:
            return [p for p in inspect.signature(cls).parameters if p not in ('self', 'runner', 'args', 'kwargs')]
    return []


@contextlib.contextmanager
def _package_bases(config_class):
    """Resolve ``_base_ = 'package::file.py'`` by ``find_config``: the stock way needs pkg_resources."""
    stock = config_class._get_cfg_path

    def resolve(cfg_path, filename):
        return (find_config(cfg_path), None) if '::' in cfg_path else stock(cfg_path, filename)

    config_class._get_cfg_path = staticmethod(resolve)
    try:
        yield
    finally:
        config_class._get_cfg_path = staticmethod(stock)
