"""Every key that a config may have: sections, their fixed keys, their rows, and the settings of each part.

`SECTIONS` is the table of top-level keys; `utils/conventions.py` has the sentences for keys that belong elsewhere. What
a part takes is read from its signature, the registry of a nested part from the name of the parameter (`PARTS`).
"""

import difflib
import inspect
import logging
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from . import registry as registries
from .registry import BY_NAME, UnknownName, find_part, is_own, registered_names
from .utils import conventions
from .utils.errors import SettingError, UnknownSetting, located
from .utils.kinds import check_kind, describe, fits, parameters_of, takes_any_name

REQUIRED = inspect.Parameter.empty


# nodes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """A plain value of one of ``kinds`` (types and constants; None: anything); ``default`` where it is absent."""

    kinds: tuple | None
    default: Any = None
    example: Any = None


@dataclass(frozen=True)
class Setting:
    """A parameter of a part."""

    parameter: inspect.Parameter
    by_default: bool = True

    @property
    def default(self):
        return self.parameter.default


@dataclass(frozen=True)
class Fields:
    """A dict of fixed keys, name -> node; ``example`` is shown where it is no dict; ``or_value`` are other kinds."""

    members: dict
    example: str
    or_value: tuple = (type(None),)
    default: Any = None


@dataclass(frozen=True)
class Arguments:
    """A dict of arguments of the callable ``name`` of a module, some of which its caller passes."""

    module: str
    name: str
    passed: tuple = ()
    example: str = 'dict()'
    or_value: tuple = (type(None),)
    default: Any = None


@dataclass(frozen=True)
class Rows:
    """A dict of named rows, each a ``node`` or None."""

    node: Any
    default: Any = None


@dataclass(frozen=True)
class Items:
    """A list of ``node``."""

    node: Any
    default: Any = None


@dataclass(frozen=True)
class Part:
    """``dict(type='Name', ...)`` of a registry's part; ``extra`` are keys that the owner reads, name -> node."""

    registry: Any
    extra: dict = field(default_factory=dict)
    default: Any = None


@dataclass(frozen=True)
class Name:
    """The name of a registry's part alone."""

    registry: Any
    default: Any = None


# the table --------------------------------------------------------------------------------------

NONE, NUMBER, WHOLE, TEXT, SWITCH, LIST, ANY = type(None), float, int, str, bool, list, None
_DATASET = Part(registries.DATASETS)
_LOADER = Arguments('wfvae_toolkit.datasets.loader', 'LoaderSettings',
                    example="dict(batch_size=4, dataset=dict(type='ImageFolder', data_root=...))")
_PARAMWISE = Fields({
    **{name: Value((NUMBER, NONE)) for name in ('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult',
                                                'dwconv_decay_mult', 'flat_decay_mult', 'dcn_offset_lr_mult')},
    'bypass_duplicate': Value((SWITCH,), False),
    'custom_keys': Rows(Fields({'lr_mult': Value((NUMBER,), 1.0), 'decay_mult': Value((NUMBER,), 1.0)},
                               "'encoder': dict(lr_mult=0.1)")),
}, "dict(custom_keys={'encoder': dict(lr_mult=0.1)})")
_OPTIMIZER_ROW = Fields({
    'type': Value(('OptimWrapper', NONE)),
    'constructor': Name(registries.OPTIM_WRAPPER_CONSTRUCTORS),
    'optimizer': Part(registries.OPTIMIZERS, default=REQUIRED),
    'clip_grad': Fields({'max_norm': Value((NUMBER,), REQUIRED, 1e5), 'foreach': Value((SWITCH, NONE)),
                         'norm_type': Value((2, 2.0), 2)},
                        'dict(max_norm=1e5), or None'),
    'paramwise_cfg': _PARAMWISE,
}, "dict(optimizer=dict(type='AdamW', lr=1e-5))")

# Top-level keys. Rows of the table may be added by whoever gives a key a meaning.
SECTIONS = {
    'default_scope': Value((TEXT, NONE)),
    'custom_imports': Fields({'imports': Value((TEXT, LIST, NONE)), 'allow_failed_imports': Value((SWITCH,), False)},
                             "dict(imports=['my_package'])"),
    'experiment_name': Value((TEXT, NONE)),
    'work_dir': Value((TEXT, NONE)),
    'log_level': Value((TEXT, WHOLE), 'INFO'),
    'launcher': Value(('none', 'pytorch', 'slurm', NONE), 'none'),
    'resume': Value((SWITCH, TEXT, NONE), False),
    'resume_drop': Value((LIST, NONE)),
    'load_from': Fields({'path': Value((TEXT,), REQUIRED), 'weights': Value(('ema', 'raw'), 'ema'),
                         'allow_missing': Value((LIST,), ())},
                        "a path, or dict(path=, weights='ema', allow_missing=[])", or_value=(TEXT, NONE)),
    'randomness': Fields({'seed': Value((WHOLE,), REQUIRED, 0), 'deterministic': Value((SWITCH,), False),
                          'diff_rank_seed': Value((False,), False)}, 'dict(seed=0)'),
    'env_cfg': Fields({
        'cudnn_benchmark': Value((SWITCH,), False),
        'mp_cfg': Fields({'mp_start_method': Value(('fork', 'spawn', 'forkserver'), 'fork'),
                          'opencv_num_threads': Value((WHOLE,), 0)}, "dict(mp_start_method='fork')"),
        'resource_limit': Value((WHOLE,), 4096)}, 'dict(cudnn_benchmark=True)'),
    'model_wrapper_cfg': Arguments('torch.nn.parallel', 'DistributedDataParallel',
                                   ('module', 'forward_sync_buffers', 'gradient_as_bucket_view'),
                                   'dict(bucket_cap_mb=100), or None'),
    'model': Part(registries.MODELS),
    'data_preprocessor': Part(registries.MODELS),
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'train_cfg': Part(registries.LOOPS),
    'val_cfg': Part(registries.LOOPS),
    'val_evaluator': Part(registries.EVALUATORS),
    'optim_wrapper': Fields({
        'type': Value(('OptimWrapper', NONE)),
        'constructor': Name(registries.OPTIM_WRAPPER_CONSTRUCTORS, 'TurnOptimizers'),
        'logvar_lr': Value((NUMBER,), 1e-2),
        'autoencoder': _OPTIMIZER_ROW, 'discriminator': _OPTIMIZER_ROW},
        "dict(autoencoder=dict(optimizer=dict(type='AdamW', lr=1e-5)))"),
    'param_scheduler': Value((LIST, dict, NONE)),  # training/schedules.py looks into it
    'runner_type': Value(('TrainingRunner', NONE)),
    'default_hooks': Rows(Part(registries.HOOKS, {'priority': Value((TEXT, WHOLE, NONE))})),
    'custom_hooks': Items(Part(registries.HOOKS, {'priority': Value((TEXT, WHOLE, NONE))}), ()),
    'visualizer': Part(registries.VISUALIZERS),
    # MMEngine's, where None alone is what runs.
    **{name: Value((NONE,)) for name in ('auto_scale_lr', 'log_processor', 'test_dataloader', 'test_cfg',
                                         'test_evaluator')},
}

# Sections without which no run starts, and those that come together.
_NEEDED = ('model', 'train_dataloader', 'optim_wrapper', 'train_cfg', 'randomness', 'env_cfg')
_VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')

# Names of parameters that hold parts, in the parts of every registry.
_METRIC = Part(registries.METRICS, {'optional': Value((SWITCH,), False),
                                    'higher_is_better': Value((SWITCH, dict, NONE))})
_SOURCE = Fields({'weight': Value((NUMBER,), REQUIRED, 1.0), 'dataset': _DATASET},
                 'dict(weight=1.0, dataset=dict(type=...)), or None')
PARTS = {
    'autoencoder': Part(registries.AUTOENCODERS), 'discriminator': Part(registries.DISCRIMINATORS),
    'losses': Rows(Part(registries.LOSSES)), 'data_preprocessor': Part(registries.MODELS),
    'compile': Arguments('torch', 'compile', ('model',), "dict(mode='max-autotune'), {} for the defaults, or None"),
    'wavelet': Part(registries.WAVELETS), 'norm': Part(registries.NORM_LAYERS),
    'mid_blocks': Items(Part(registries.MID_BLOCKS)), 'channel_attention': Part(registries.CHANNEL_ATTENTIONS),
    'downsample': Part(registries.DOWNSAMPLERS), 'upsample': Part(registries.UPSAMPLERS),
    'dataset': _DATASET, 'sources': Rows(_SOURCE), 'pipeline': Items(Part(registries.TRANSFORMS)),
    'metrics': Rows(_METRIC), 'vis_backends': Items(Part(registries.VISBACKENDS)),
}

# using it ---------------------------------------------------------------------------------------


def check_config(cfg):
    """Refuse the first key of a config that nothing reads, and the first value of a wrong kind.

    Nothing is built. What depends on two settings, or on files, is checked where it is built.

    Args:
        cfg (dict | Config): sections that it lacks are not missed; see `check_runnable`.

    Raises:
        UnknownSetting: a key that nothing reads, or one that a part needs and lacks; the message names the nearest.
        UnknownName: a ``type`` that its registry does not hold.
        SettingError: a value of another kind than its setting.
    """
    _check(_ROOT, _as_dict(cfg), '', cfg)


def effective_settings(cfg):
    """Dotted path -> plain value of every setting that runs, constructor defaults of all parts included.

    Lists of parts are numbered (``model.autoencoder.mid_blocks.0.type``); lists of plain values are one value. A row
    that is None, or a part that is left out, is one path with None.
    """
    return dict(_effective(_ROOT, _as_dict(cfg), ''))


def check_runnable(settings):
    """SettingError for a section without which no run starts, or a part of the validation without the others."""
    for name in _NEEDED:
        if not isinstance(settings.get(name), dict):
            raise SettingError(f'{name}={settings.get(name)!r}: a dict is needed; see '
                               'wfvae_toolkit::_base_/runtime.py and the shipped configs')
    missing = [name for name in _VALIDATION if settings.get(name) is None]
    if len(missing) in (1, 2):
        raise SettingError(f'{missing[0]}=None: give {", ".join(_VALIDATION[:-1])} and {_VALIDATION[-1]}, or set all '
                           'three to None to train without validation')
    level = settings.get('log_level', 'INFO')
    if level not in logging.getLevelNamesMapping():
        raise SettingError(f'log_level={level!r}: one of {", ".join(logging.getLevelNamesMapping())}')


def defaults_of(name):
    """Name of a registered part -> its settings that have a default, by name."""
    for registry in BY_NAME.values():
        if name in registered_names(registry):
            return {setting: parameter.default for setting, parameter in parameters_of(registry.get(name)).items()
                    if parameter.default is not REQUIRED and setting not in registry.context}
    raise UnknownName(f'no part is called {name!r}')


def known_keys(cfg, path=''):
    """Names that may stand under a dotted path of a config, name -> node; None where any may."""
    node, value = _ROOT, _as_dict(cfg)
    for name in path.split('.') if path else ():
        node, value = _child(node, value, name, path), value[int(name) if isinstance(value, (list, tuple)) else name]
    members, other = _members(node, value, path)
    return members if other is None else None


_ROOT = Fields(SECTIONS, 'a config')


def _as_dict(cfg):
    return getattr(cfg, '_cfg_dict', cfg)


def _members(node, value, path):
    """(name -> node, node of any other name or None) for a dict that stands on ``node``."""
    if isinstance(node, Fields):
        return node.members, None
    if isinstance(node, Rows):
        return {}, node.node
    if isinstance(node, Arguments):
        called = getattr(import_module(node.module), node.name)
        return _settings(called, node.passed, value), None
    if isinstance(node, Part):
        part = _part_of(node, value, path)
        members = {'type': Value(ANY, REQUIRED), **_settings(part, node.registry.context, value), **node.extra}
        return members, Value(ANY) if takes_any_name(part) else None
    return {}, Value(ANY)


def _part_of(node, value, path):
    name = value['type']
    with located(f'{path}.type'):
        part = find_part(name, node.registry) if isinstance(name, str) else name
        refused = conventions.of_part(part)
        if refused:
            raise SettingError(f"MMEngine's {part.__name__} is not used here; {refused}")
        if callable(part):
            return part
        raise UnknownSetting(f'{name!r}: expected the name of a registered {node.registry.name}')


def _settings(part, passed, value):
    return {name: _of_parameter(part, parameter, value.get(name)) for name, parameter in parameters_of(part).items()
            if name not in passed and parameter.kind is not parameter.VAR_KEYWORD}


def _of_parameter(part, parameter, value):
    """Node of a parameter: that of `PARTS`, unless the default shows a plain value."""
    own = is_own(part)
    node = PARTS.get(parameter.name)
    plain_default = isinstance(parameter.default, (str, int, float)) and parameter.default is not REQUIRED
    if node is not None and not plain_default and (own or isinstance(value, (dict, list, tuple))):
        return type(node)(**{**vars(node), 'default': parameter.default})
    if isinstance(value, dict) and isinstance(value.get('type'), str) and not plain_default:
        for registry in BY_NAME.values():
            try:
                find_part(value['type'], registry)
            except UnknownName:
                continue
            return Part(registry, default=parameter.default)
    return Setting(parameter, own)


def _child(node, value, name, path):
    if isinstance(node, Items):
        return node.node
    members, other = _members(node, value, path)
    return members.get(name, other)


def _check(node, value, path, cfg):
    _check_kind(node, value, path)
    if isinstance(node, Items) and isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check(node.node, item, f'{path}.{number}', cfg)
    if not isinstance(value, dict) or isinstance(node, (Value, Setting, Items)):
        return
    members, other = _members(node, value, path)
    for key, item in value.items():
        child, place = members.get(key, other), f'{path}.{key}' if path else str(key)
        if child is None:
            part = getattr(_part_of(node, value, path), '__name__', '') if isinstance(node, Part) else ''
            raise UnknownSetting(_unknown(key, path, members, cfg, part))
        if not (isinstance(node, Rows) and item is None):
            _check(child, item, place, cfg)
    offered = node.registry.offers if isinstance(node, Part) else ()
    for key, child in members.items():
        if child.default is REQUIRED and key not in value and key not in offered:
            with located(path):
                raise UnknownSetting(f'{key} is missing; it has {", ".join(members)}')


def _check_kind(node, value, path):
    """SettingError unless the value itself, whatever is in it, is of a kind that the node takes."""
    *parent, last = path.rsplit('.', 1)
    with located(path):
        if isinstance(node, Value) and not fits(value, node.kinds) and value != node.default:
            _refuse_foreign(path)
            raise SettingError(f'{value!r}: {describe(node.kinds, node.example)}')
        if isinstance(node, (Fields, Arguments)) and not (isinstance(value, dict) or fits(value, node.or_value)):
            raise SettingError(f'{value!r}: use {node.example}')
        if isinstance(node, Rows) and not (isinstance(value, dict) or value is None):
            raise SettingError(f"{value!r}: a dict of named rows is needed, such as dict(name=dict(type='Name', ...))")
        if isinstance(node, Items) and not (isinstance(value, (list, tuple)) or value is None is node.default):
            raise SettingError(f"{value!r}: a list is needed, such as [dict(type='Name', ...)]")
        if isinstance(node, Name):
            find_part(value, node.registry) if isinstance(value, str) else None
        if isinstance(node, Part) and not (isinstance(value, dict) and 'type' in value) and not (
                value is None is node.default):
            raise UnknownSetting(f"{node.registry.name}: expected dict(type='Name', ...), got {value!r}")
    if isinstance(node, Setting):
        with located(parent[0]) if parent else located(''):
            check_kind(last, value, node.parameter, node.by_default)


def _refuse_foreign(path):
    sentence = conventions.of_key(path)
    if sentence:
        raise UnknownSetting(f'nothing reads it here; {sentence}')


def _unknown(key, parent, members, cfg, part):
    """The sentence for a key that nothing reads: what to use in its place, or the nearest key."""
    path = f'{parent}.{key}' if parent else str(key)
    sentence = conventions.of_key(path, part)
    if sentence:
        return f'{path}: nothing reads it here; {sentence}'
    said = f'{parent or "the config"} has no {key}'
    inside = f'{parent}.' if parent else ''
    near = difflib.get_close_matches(str(key), members, n=1, cutoff=0.6)
    if near:
        return f'{said}; did you mean {inside}{near[0]}?'
    section = parent.partition('.')[0]
    moved = [known for known in _effective_paths(cfg) if known.rpartition('.')[2] == key
             and (not section or known.partition('.')[0] == section) and known != path]
    if moved:
        return f'{said}; did you mean {min(moved, key=len)}?'
    return f'{said}; it has {", ".join(sorted(set(members) - {"type"})) or "no settings"}'


def _effective_paths(cfg):
    try:
        return [path for path, _ in _effective(_ROOT, _as_dict(cfg), '')]
    except (UnknownName, UnknownSetting):
        return []


def _effective(node, value, path):
    if isinstance(node, Items) and isinstance(value, (list, tuple)) and value:
        for number, item in enumerate(value):
            yield from _effective(node.node, item, f'{path}.{number}')
    elif isinstance(value, dict) and not isinstance(node, (Value, Setting, Items)):
        members, _ = _members(node, value, path)
        for name in [*members, *(key for key in value if key not in members)]:
            child = members.get(name, node.node if isinstance(node, Rows) else Value(ANY))
            item = value.get(name, child.default)
            if item is not REQUIRED:
                yield from _effective(child, item, f'{path}.{name}' if path else name)
    else:
        yield path, _plain(value)


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
