"""Every registry of the toolkit on one page.

A config names a part by its class name (``dict(type='Haar')``). The registry imports its ``locations`` to find the
class, so the config needs no import. A dotted path (``type='package.module.Class'``) works too. The second group of
registries are children of MMEngine's, so MMEngine's own parts (optimizers, visualization backends, ...) are found too.
"""

import contextlib
import difflib
from importlib import import_module

from mmengine import registry as engine
from mmengine.registry import Registry

from .utils.errors import NameClash, UnknownName, UnknownSetting
from .utils.kinds import check_kinds, parameters_of, takes_any_name
from .utils.plugins import load_plugins, place_of

SCOPE = 'wfvae_toolkit'


class PartRegistry(Registry):
    """MMEngine's registry; registering a name twice is an error that gives the location of both parts.

    Attributes:
        context (tuple[str]): arguments that the owner passes to every part; a config cannot set them.
        offers (tuple[str]): arguments that the owner passes unless the config gives them.
    """

    def __init__(self, *args, context=(), offers=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.context, self.offers = context, offers

    def _register_module(self, module, module_name=None, force=False):
        names = [module_name] if isinstance(module_name, str) else module_name or [module.__name__]
        if not module.__module__.startswith(f'{SCOPE}.'):
            # A plug-in may register before our own parts are imported. Import ours first, so that a clash is noticed.
            self.import_from_location()
        for name in names:
            other = self._module_dict.get(name)
            if other is not None and not force:
                raise NameClash(f'two parts of the registry {self.name!r} are called {name!r}: {place_of(other)} and '
                                f'{place_of(module)}; rename one, or give one another name: '
                                "register_module(name='...')")
        super()._register_module(module, names, force)


def build_part(cfg, registry, **context):
    """Build the part that ``cfg['type']`` names, with ``cfg`` over ``context`` as its arguments.

    Args:
        cfg (dict): ``type`` (registered name, dotted path or class) and constructor arguments.
        registry (Registry): where names are looked up.
        **context: arguments that the owner passes to every part of the registry
            (``channels=``, ``norm=``).

    Raises:
        UnknownSetting: ``cfg`` is not a dict with a ``type``, or an argument is unknown or missing.
        UnknownName: no part of that name is registered; the message lists the registered names.
        SettingError: an argument of one of our own parts has the wrong type, such as a text in place of a number.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise UnknownSetting(f"{registry.name}: expected dict(type='Name', ...), got {cfg!r}")
    if not (isinstance(cfg['type'], str) or callable(cfg['type'])):
        raise UnknownSetting(f'{registry.name}: type={cfg["type"]!r}: expected a name, one of '
                             f'{", ".join(sorted(registered_names(registry)))}')
    arguments = {**context, **{key: value for key, value in cfg.items() if key != 'type'}}
    cls = cfg['type']
    if isinstance(cls, str):
        cls = find_part(cls, registry)
    parameters = parameters_of(cls)
    accepted = [name for name in parameters if name not in context]
    for name in arguments:
        if name not in parameters and not takes_any_name(cls):
            raise UnknownSetting(f'{registry.name} {cls.__name__}: no setting is called {name!r}; its settings are '
                                 f'{accepted}')
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD and (
                name not in arguments):
            raise UnknownSetting(f'{registry.name} {cls.__name__}: {name!r} is missing; its settings are {accepted}')
    if is_own(cls):
        check_kinds(cls, arguments)
    return cls(**arguments)


def is_own(part):
    """Whether a class belongs to the toolkit. Its defaults then show the type of each setting; see `kinds_of`."""
    return part.__module__.partition('.')[0] == SCOPE


def find_part(name, registry):
    """Name or dotted path -> class, installed plug-ins included. UnknownName lists the registered names."""
    cls = _look_up(name, registry)
    if cls is None and load_plugins():
        cls = _look_up(name, registry)
    if cls is None:
        known, above = set(registered_names(registry)), registry.parent
        while above is not None:
            known, above = known | set(above.module_dict), above.parent
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f'; did you mean {near[0]!r}?' if near else '.'
        raise UnknownName(f'no {registry.name} is called {name!r}{hint} Registered: {", ".join(known)}. '
                          'A dotted path (package.module.Class) works too.')
    return cls


def _look_up(name, registry):
    module, dot, attribute = name.rpartition('.')
    try:
        cls = registry.get(name)
        if cls is None and dot:
            # MMEngine returns None without a reason. This import raises the reason.
            cls = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(f'{registry.name} {name!r}: {error}') from error
    return cls


def registered_names(registry):
    """Names that a config may use as ``type`` without a dotted path, installed plug-ins included."""
    load_plugins()
    registry.import_from_location()
    return list(registry.module_dict)


def with_registered_names(config):
    """A copy of a config in which registered names replace classes and dotted paths.

    A part that is not registered keeps its dotted path; see `unregistered_types`.
    """
    if isinstance(config, dict):
        config = {key: with_registered_names(value) for key, value in config.items()}
        kind = config.get('type')
        if isinstance(kind, type) or isinstance(kind, str) and '.' in kind:
            config['type'] = _registered_name(kind)
        return config
    return [with_registered_names(item) for item in config] if isinstance(config, (list, tuple)) else config


def _registered_name(kind):
    cls = kind
    if isinstance(kind, str):
        module, _, attribute = kind.rpartition('.')
        with contextlib.suppress(ImportError):
            cls = getattr(import_module(module), attribute, kind)
    for registry in BY_NAME.values():
        for name in registered_names(registry):
            if registry.module_dict[name] is cls:
                return name
    return kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__qualname__}'


def unregistered_types(config, registries=None):
    """Values of ``type``, at any depth of a config, that are in none of ``registries`` (None: all registries).

    Check a config from a file with this function: MMEngine's registries would import and call any dotted path, even
    ``subprocess.Popen``.
    """
    names = [name for registry in registries or BY_NAME.values() for name in registered_names(registry)]
    return [node['type'] for node in _dicts(config) if 'type' in node and node['type'] not in names]


def _dicts(node):
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from _dicts(value)


def _own(name, *locations, **options):
    return PartRegistry(name, build_func=build_part, scope=SCOPE, **_located(locations), **options)


def _child(parent, *locations, **options):
    return PartRegistry(parent.name, parent=parent, scope=SCOPE, **_located(locations), **options)


def _located(locations):
    return dict(locations=[place if place.startswith('mmengine.') else f'{SCOPE}.{place}' for place in locations])


# ours: (cfg, **context) -> part
AUTOENCODERS = _own('autoencoder', 'models.autoencoders')
POSTERIORS = _own('posterior', 'models.posterior')
WAVELETS = _own('wavelet', 'models.wavelets')
NORM_LAYERS = _own('norm layer', 'models.layers', context=('channels',))
MID_BLOCKS = _own('mid block', 'models.layers', context=('channels', 'out_channels'), offers=('norm',))
DOWNSAMPLERS = _own('downsampler', 'models.layers', context=('channels', 'next_channels'))
UPSAMPLERS = _own('upsampler', 'models.layers', context=('channels', 'next_channels'))
CHANNEL_ATTENTIONS = _own('channel attention', 'models.layers', context=('channels',))
LATENT_TRANSFORMS = _own('latent transform', 'models.latent_transforms')
DISCRIMINATORS = _own('discriminator', 'models.discriminators')
AUGMENTATIONS = _own('augmentation', 'models.discriminators')
LOSSES = _own('loss', 'losses')

# children of MMEngine's
DATASETS = _child(engine.DATASETS, 'datasets', build_func=build_part, context=('option',))
TRANSFORMS = _child(engine.TRANSFORMS, 'datasets', build_func=build_part)
METRICS = _child(engine.METRICS, 'evaluation', build_func=build_part)
EVALUATORS = _child(engine.EVALUATOR, 'evaluation', build_func=build_part)
MODELS = _child(engine.MODELS, 'training', build_func=build_part)
LOOPS = _child(engine.LOOPS, 'training', build_func=build_part, context=('runner', 'dataloader', 'evaluator'))
OPTIMIZERS = _child(engine.OPTIMIZERS, 'mmengine.optim', context=('params',))
OPTIM_WRAPPERS = _child(engine.OPTIM_WRAPPERS, 'mmengine.optim', context=('optimizer',))
PARAM_SCHEDULERS = _child(engine.PARAM_SCHEDULERS, 'mmengine.optim', context=('optimizer',))
OPTIM_WRAPPER_CONSTRUCTORS = _child(engine.OPTIM_WRAPPER_CONSTRUCTORS, 'training', build_func=build_part,
                                    context=('optim_wrapper_cfg',))
RUNNERS = _child(engine.RUNNERS, 'training')
HOOKS = _child(engine.HOOKS, 'hooks', build_func=build_part)
VISBACKENDS = _child(engine.VISBACKENDS, 'visualization.backends', offers=('save_dir',))
VISUALIZERS = _child(engine.VISUALIZERS, 'mmengine.visualization', offers=('save_dir',))

BY_NAME = {registry.name: registry for registry in (
    AUTOENCODERS, POSTERIORS, WAVELETS, NORM_LAYERS, MID_BLOCKS, DOWNSAMPLERS, UPSAMPLERS, CHANNEL_ATTENTIONS,
    LATENT_TRANSFORMS, DISCRIMINATORS, AUGMENTATIONS, LOSSES, DATASETS, TRANSFORMS, METRICS, EVALUATORS, MODELS, LOOPS,
    OPTIMIZERS, OPTIM_WRAPPERS, OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS, RUNNERS, HOOKS, VISBACKENDS, VISUALIZERS)}
