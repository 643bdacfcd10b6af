"""Every key that a config may have: sections, their fixed keys, their rows, and the settings of each part.

`SECTIONS` is the table of top-level keys; `utils/conventions.py` says what to use in place of MMEngine's other keys.
The settings of a part are read from its signature. The name of a parameter tells the registry of a nested part
(`PARTS`).
"""

import logging

from . import registry as registries
from .registry import BY_NAME, registered_names
from .utils.errors import SettingError, UnknownName
from .utils.kinds import kinds_of, parameters_of
from .utils.nodes import REQUIRED, Arguments, Fields, Items, Name, Part, Rows, Schema, Setting, Value

NONE, NUMBER, WHOLE, TEXT, SWITCH, LIST = type(None), float, int, str, bool, list
_DATASET = Part(registries.DATASETS, example="dict(type='ImageFolder', data_root=...)")
_LOADER = Arguments('wfvae_toolkit.datasets.loader.LoaderSettings',
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
    'optimizer': Part(registries.OPTIMIZERS, example="dict(type='AdamW', lr=1e-5)", default=REQUIRED),
    'clip_grad': Fields({'max_norm': Value((NUMBER,), REQUIRED, 1e5), 'foreach': Value((SWITCH, NONE)),
                         'norm_type': Value((2, 2.0), 2)},
                        'dict(max_norm=1e5), or None'),
    'paramwise_cfg': _PARAMWISE,
}, "dict(optimizer=dict(type='AdamW', lr=1e-5))")

# Top-level keys. A package that reads another key may add a row for it.
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
        'mp_cfg': Fields({'mp_start_method': Value((NONE, 'fork', 'spawn', 'forkserver')),
                          'opencv_num_threads': Value((WHOLE,), 0)}, "dict(mp_start_method='spawn')"),
        'resource_limit': Value((WHOLE,), 4096)}, 'dict(cudnn_benchmark=True)'),
    'model_wrapper_cfg': Arguments('torch.nn.parallel.DistributedDataParallel',
                                   ('module', 'forward_sync_buffers', 'broadcast_buffers',
                                    'gradient_as_bucket_view'),
                                   'dict(bucket_cap_mb=100), or None'),
    'model': Part(registries.MODELS),
    'data_preprocessor': Part(registries.MODELS),
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'train_cfg': Part(registries.LOOPS, base='wfvae_toolkit.training.loops.UpdateLoop',
                      example="dict(type='UpdateLoop', max_iters=1_000_000)"),
    'val_cfg': Part(registries.LOOPS, base='wfvae_toolkit.training.loops.EvaluationLoop',
                    example="dict(type='EvaluationLoop')"),
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
    # MMEngine's keys; only None is allowed.
    **{name: Value((NONE,)) for name in ('auto_scale_lr', 'log_processor', 'test_dataloader', 'test_cfg',
                                         'test_evaluator')},
}

# Keys that say how a run is started; they do not change what is trained.
STARTED_BY = ('launcher', 'resume', 'resume_drop')
# Sections that every run needs, and sections that must be set together.
_NEEDED = ('model', 'train_dataloader', 'optim_wrapper', 'train_cfg', 'randomness', 'env_cfg')
_VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')

# Names of parameters that hold parts, in the parts of every registry.
_METRIC = Part(registries.METRICS, {'optional': Value((SWITCH,), False),
                                    'higher_is_better': Value((SWITCH, dict, NONE)),
                                    'pixels': Value((TEXT, NONE)), 'mean_of_batches': Value((WHOLE, NONE))})
_SOURCE = Fields({'weight': Value((NUMBER,), REQUIRED, 1.0), 'dataset': _DATASET},
                 'dict(weight=1.0, dataset=dict(type=...)), or None')
_LOSS = Part(registries.LOSSES, {'balance': Value((LIST, tuple), ()), 'balance_at': Value((TEXT, NONE)),
                                 'max_ratio': Value((NUMBER,), 1e6)})
PARTS = {
    'autoencoder': Part(registries.AUTOENCODERS), 'discriminator': Part(registries.DISCRIMINATORS),
    'discriminator_augmentation': Part(registries.AUGMENTATIONS),
    'latent_transforms': Items(Part(registries.LATENT_TRANSFORMS), ()),
    'losses': Rows(_LOSS), 'loss': Part(registries.LOSSES), 'data_preprocessor': Part(registries.MODELS),
    'compile': Arguments('torch.compile', ('model',), "dict(mode='max-autotune'), {} for the defaults, or None"),
    'posterior': Part(registries.POSTERIORS),
    'wavelet': Part(registries.WAVELETS), 'norm': Part(registries.NORM_LAYERS),
    'mid_blocks': Items(Part(registries.MID_BLOCKS)), 'channel_attention': Part(registries.CHANNEL_ATTENTIONS),
    'downsample': Part(registries.DOWNSAMPLERS), 'upsample': Part(registries.UPSAMPLERS),
    'dataset': _DATASET, 'sources': Rows(_SOURCE), 'pipeline': Items(Part(registries.TRANSFORMS)),
    'stages': Items(Fields({
        'start_iter': Value((WHOLE,), REQUIRED), 'size': Value((WHOLE, NONE)), 'batch_size': Value((WHOLE,)),
        'accumulation': Value((WHOLE,))}, 'dict(start_iter=1000, size=512, batch_size=4, accumulation=1)')),
    'remote': Arguments('wfvae_toolkit.datasets.remote_settings.RemoteSettings', (),
                        "dict(cache_gb=100, deadline_s=600), or None"),
    'metrics': Rows(_METRIC), 'vis_backends': Items(Part(registries.VISBACKENDS)),
}

SCHEMA = Schema(SECTIONS, PARTS)


def check_config(cfg):
    """Refuse the first key of a config that nothing reads, and the first value of a wrong kind.

    Nothing is built. Rules that concern two settings, or files, are checked when the part is built.

    Args:
        cfg (dict | Config): it may lack sections; `check_runnable` reports those.

    Raises:
        UnknownSetting: a key that nothing reads, or one that a part needs and lacks; the message names the nearest.
        UnknownName: a ``type`` that is not in its registry.
        SettingError: a value of the wrong type.
    """
    SCHEMA.check(_as_dict(cfg))


def effective_settings(cfg):
    """Dotted path -> plain value of every setting that runs, constructor defaults of all parts included.

    Lists of parts are numbered (``model.autoencoder.mid_blocks.0.type``); lists of plain values are one value. A row
    that is None, or a part that is left out, is one path with None.
    """
    return SCHEMA.effective(_as_dict(cfg))


def check_runnable(settings):
    """SettingError if a section that every run needs is missing, or if the validation is configured only in part."""
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


def check_sections(cfg):
    """The part of `check_config` that imports no part: top-level keys, and ``custom_imports``."""
    SCHEMA.check_sections(_as_dict(cfg))


def node_at(cfg, path):
    """The node of a dotted path of a config, see ``utils/nodes.py``; None where the config has no such place."""
    return SCHEMA.node_at(_as_dict(cfg), path)


def check_removed(cfg, paths):
    """UnknownSetting for the first of ``paths`` that a config sets to None although no row has that name."""
    SCHEMA.check_removed(_as_dict(cfg), paths)


def takes_text(cfg, path):
    """Whether the setting at a dotted path of a config may be a text."""
    node = node_at(cfg, path)
    kinds = node.kinds if isinstance(node, Value) else kinds_of(node.parameter) if isinstance(node, Setting) else ()
    return kinds is not None and str in kinds


def needs_type(cfg, path):
    """Whether a part stands at a dotted path of a config."""
    return isinstance(node_at(cfg, path), Part)


def _as_dict(cfg):
    return getattr(cfg, '_cfg_dict', cfg)
