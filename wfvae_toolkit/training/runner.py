"""MMEngine's Runner with our checkpoint files and a log that starts with what is needed to repeat a run."""

import logging
from functools import cached_property
from pathlib import Path

from mmengine.runner import BaseLoop, Runner

from wfvae_toolkit.checkpoints import LAST
from wfvae_toolkit.registry import HOOKS, LOOPS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS, find_part
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError, is_number, located
from wfvae_toolkit.utils.files import WriteError, remove_unfinished
from wfvae_toolkit.utils.seeding import mix_seed
from wfvae_toolkit.utils.signals import was_restarted

from . import resume as resuming
from .loops import EvaluationLoop, UpdateLoop
from .record import describe_run
from .rehearsal import rehearse
from .starting import start_from

# Sections of a config without which no run starts.
_SECTIONS = ('model', 'train_dataloader', 'optim_wrapper', 'train_cfg', 'randomness', 'env_cfg')
# What a run writes into its folder and a later one would take for its own.
_RUN_FILES = ('iter_*.pth', 'best_*.pth', LAST, 'log.jsonl', 'train.csv', 'val.csv', 'curves.png', 'pictures',
              'vis_data', 'bad_files.jsonl')


@RUNNERS.register_module()
class TrainingRunner(Runner):
    """Built by ``TrainingRunner.from_cfg(cfg)``.

    ``cfg.resume`` is False, True (newest checkpoint) or a path; ``cfg.resume_drop`` lists what is not continued,
    ``'discriminator'``, ``'optimizers'``. ``cfg.load_from`` is None, a MODEL, or ``dict(path=, weights=,
    allow_missing=)`` as of ``start_from``; it counts where nothing is resumed. Processes that torchrun starts again
    after a failure continue their own run from its newest checkpoint, whatever ``cfg.resume`` says.

    averaged_autoencoder: EMA of the autoencoder, set by EMAHook; None without.
    resumed: of a resumed run which checkpoint, and what differs beside the settings; None of another.
    The model is never wrapped: under DDP it wraps its own forward passes (``model.distribute``), so state
    dict keys are the same on any number of ranks.
    """

    averaged_autoencoder = None
    resumed = None

    def __init__(self, model, work_dir, *args, resume=False, **kwargs):
        _check_sections({'model': model, **kwargs})
        self._restarted = was_restarted()
        self._resume_from = resume
        self._earlier_run = None
        try:
            Path(work_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f'work_dir {work_dir}: cannot be made: {error.strerror}; choose another by '
                             '--work-dir') from None
        super().__init__(model, work_dir, *args, resume=False, **kwargs)

    def setup_env(self, env_cfg):
        super().setup_env(env_cfg)
        if distributed.is_main():
            remove_unfinished(self.work_dir, _RUN_FILES)
            if not self._resume_from and not self._restarted:
                self._set_aside()
        distributed.barrier()

    def _set_aside(self):
        """A new run neither mixes with what an earlier one left in the folder nor eats it: that moves into its own."""
        folder = Path(self.work_dir)
        left = [path for pattern in _RUN_FILES for path in folder.glob(pattern)]
        start = self.cfg.get('load_from')
        start = start.get('path') if isinstance(start, dict) else start
        if left and start and Path(start).resolve() in [path.resolve() for path in (folder, *left)]:
            raise SettingError(f'load_from={str(start)!r} lies in the folder of this run, whose files are moved aside '
                               'before it starts; give the run another --work-dir')
        if left:
            self._earlier_run = folder / f'before_{self.timestamp}'
            self._earlier_run.mkdir()
            for path in left:
                path.rename(self._earlier_run / path.name)

    def set_randomness(self, seed=None, **kwargs):
        if not is_number(seed, 0, whole=True):
            raise SettingError(f'randomness.seed={seed!r}: a whole number from 0 is needed; the order of samples and '
                               'all noise derive from it')
        super().set_randomness(seed, **kwargs)
        # The model is built next; every rank starts from the same weights.
        import torch
        torch.manual_seed(mix_seed('initial weights', seed))

    # Parts are built here and not by MMEngine, whose errors name a class instead of a key of the config.

    def build_model(self, model):
        with located('model'):
            return MODELS.build(model)

    def build_train_loop(self, loop):
        if isinstance(loop, BaseLoop):
            return loop
        _check_loop('train_cfg', loop, UpdateLoop)
        return LOOPS.build(loop, runner=self, dataloader=self._train_dataloader)

    def build_val_loop(self, loop):
        if isinstance(loop, BaseLoop):
            return loop
        _check_loop('val_cfg', loop, EvaluationLoop)
        return LOOPS.build(loop, runner=self, dataloader=self._val_dataloader, evaluator=self._val_evaluator)

    def build_optim_wrapper(self, optim_wrapper):
        rows = dict(optim_wrapper)
        with located('optim_wrapper'):
            return OPTIM_WRAPPER_CONSTRUCTORS.build(
                dict(type=rows.pop('constructor', 'TurnOptimizers')), optim_wrapper_cfg=rows)(self.model)

    def wrap_model(self, model_wrapper_cfg, model):
        model = model.to(default_device())
        if distributed.is_distributed():
            model.distribute(**(model_wrapper_cfg or {}))
        return model

    def build_visualizer(self, visualizer=None):
        # One folder for the whole run, resumed or not, instead of one a start.
        try:
            return super().build_visualizer(None if visualizer is None else {'save_dir': self.work_dir, **visualizer})
        except (LookupError, TypeError) as error:
            raise SettingError(f'visualizer={visualizer!r}: {error}') from error

    def register_default_hooks(self, hooks=None):
        """Just the rows of the config, those that are None left out."""
        for name, hook in (hooks or {}).items():
            if hook is not None:
                self._build_hook(hook, f'default_hooks.{name}')

    def register_custom_hooks(self, hooks):
        if not isinstance(hooks, (list, tuple)):
            raise SettingError(f"custom_hooks={hooks!r}: a list is needed, such as [dict(type='Name')]")
        for number, hook in enumerate(hooks):
            self._build_hook(hook, f'custom_hooks.{number}')

    def _build_hook(self, cfg, place):
        with located(place):
            settings = dict(cfg) if isinstance(cfg, dict) else {}
            priority = settings.pop('priority', None)
            self.register_hook(HOOKS.build(settings), priority)

    def get_hooks_info(self):
        return ', '.join(type(hook).__name__ for hook in self.hooks)

    def _log_env(self, env_cfg):
        """RunHeaderHook says more, and MMEngine's version imports torchvision without the shim."""

    def train(self):
        """Train to ``train_cfg.max_iters``; returns the model. What cannot work is a SettingError before anything."""
        val_loop = self.val_loop
        validation = () if val_loop is None else (val_loop.dataloader.dataset, val_loop.evaluator)
        rehearse(self.model, self.train_loop.dataloader.dataset, *validation)
        return super().train()

    def load_or_resume(self):
        if self._has_loaded:
            return
        self._has_loaded = True
        if self._earlier_run is not None:
            self.logger.info(f'an earlier run in {self.work_dir} was moved to {self._earlier_run.name}/; --resume '
                             'would have continued it')
        named = self._resume_from if self._resume_from is not True else None
        newest = None
        if self._resume_from is True or self._restarted:
            newest = resuming.find_newest(self, 'started again after a failure' if self._restarted else '--resume')
        if newest or named:
            # A run that torchrun starts again has dropped already.
            dropped = () if newest and self._restarted else self.cfg.get('resume_drop') or ()
            resuming.continue_from(self, newest or named, dropped)
        elif self._load_from:
            with located('load_from'):
                self._start(_load_from_options(self._load_from))

    def _start(self, options):
        fresh = start_from(self.model, **options)
        self.logger.info(f'started from {options["path"]}' + f'; new: {", ".join(fresh)}' * bool(fresh))
        self.call_hook('after_load_weights')

    # state --------------------------------------------------------------------------------------

    @cached_property
    def record(self):
        """What checkpoints say about this run; see ``describe_run``."""
        return describe_run(self)

    def state(self, iteration):
        """Everything that continuing after ``iteration`` updates needs: tensors and plain values."""
        return resuming.state(self, iteration)


def _check_sections(settings):
    """SettingError for a section of the config that is missing or no section."""
    for name in _SECTIONS:
        if not isinstance(settings.get(name), dict):
            raise SettingError(f'{name}={settings.get(name)!r}: a dict is needed; see '
                               'wfvae_toolkit::_base_/runtime.py and the shipped configs')
    missing = [name for name in ('val_dataloader', 'val_cfg', 'val_evaluator') if settings.get(name) is None]
    if len(missing) in (1, 2):
        raise SettingError(f'{missing[0]}=None: give val_dataloader, val_cfg and val_evaluator, or set all three to '
                           'None to train without validation')
    level = settings.get('log_level', 'INFO')
    if level not in logging.getLevelNamesMapping():
        raise SettingError(f'log_level={level!r}: one of {", ".join(logging.getLevelNamesMapping())}')


def _check_loop(place, cfg, kind):
    with located(place):
        cls = find_part(cfg['type'], LOOPS) if isinstance(cfg, dict) and isinstance(cfg.get('type'), str) else None
        if not (isinstance(cls, type) and issubclass(cls, kind)):
            raise SettingError(f"{cfg!r}: dict(type='{kind.__name__}', ...) or a child of it is needed")


def _load_from_options(value):
    """``load_from`` of a config -> arguments of start_from."""
    options = value if isinstance(value, dict) else dict(path=value)
    if not isinstance(options.get('path'), (str, Path)) or options.keys() - {'path', 'weights', 'allow_missing'}:
        raise SettingError(f"{value!r}: use a path, or dict(path=, weights='ema', allow_missing=[])")
    return options
