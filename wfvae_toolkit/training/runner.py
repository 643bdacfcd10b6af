"""MMEngine's Runner with our checkpoint files and a log that starts with what is needed to repeat a run."""

import contextlib
import itertools
import os
import sys
from functools import cached_property
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Priority, Runner

from wfvae_toolkit.checkpoints import LAST
from wfvae_toolkit.registry import HOOKS, LOOPS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS, find_part
from wfvae_toolkit.schema import STARTED_BY, check_config, check_runnable
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError, UserError, is_number, located
from wfvae_toolkit.utils.files import WriteError, remove_unfinished
from wfvae_toolkit.utils.seeding import mix_seed
from wfvae_toolkit.utils.signals import was_restarted

from . import resume as resuming
from .loops import EvaluationLoop, UpdateLoop
from .record import describe_run
from .rehearsal import rehearse
from .schedules import ParamSchedules
from .starting import start_from

# Files of a run that a later run in the same folder would take for its own.
_RUN_FILES = ('iter_*.pth', 'best_*.pth', LAST, 'log.jsonl', 'train.csv', 'val.csv', 'curves.png', 'pictures',
              'vis_data', 'bad_files.jsonl', 'latent_statistics.json')


@RUNNERS.register_module()
class TrainingRunner(Runner):
    """Built by ``TrainingRunner.from_cfg(cfg)``.

    ``cfg.resume`` is False, True (newest checkpoint) or a path; ``cfg.resume_drop`` lists parts to start anew:
    ``'discriminator'``, ``'optimizers'``. ``cfg.load_from`` is None, a MODEL, or ``dict(path=, weights=,
    allow_missing=)`` as for ``start_from``; it is used only if nothing is resumed. If torchrun restarts the processes
    after a failure, they resume their own newest checkpoint, whatever ``cfg.resume`` says.

    averaged_autoencoder: EMA of the autoencoder, set by EMAHook; None without that hook.
    resumed: (checkpoint, differences other than settings) of a resumed run; else None.
    The model is never wrapped: under DDP it wraps its own forward passes (``model.distribute``), so state dict keys
    are the same on any number of ranks.

    ``train``, ``val`` and ``resume`` work in any order. A ``val`` outside of training returns and logs the scores;
    records, pictures and checkpoints of the run stay unchanged.
    """

    averaged_autoencoder = None
    resumed = None

    def __init__(self, model, work_dir, *args, resume=False, **kwargs):
        check_runnable({'model': model, **kwargs})
        self._restarted = was_restarted()
        self._resume_from = resume
        self._earlier_run = None
        try:
            Path(work_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f'work_dir {work_dir}: cannot be made: {error.strerror}; choose another by '
                             '--work-dir') from None
        super().__init__(model, work_dir, *args, resume=False, **kwargs)
        self._check_schedules()

    @classmethod
    def from_cfg(cls, cfg):
        """Check every key of a config, from ``load_config`` or made in Python, and build a runner from it."""
        check_config(cfg)
        return super().from_cfg(cfg)

    def setup_env(self, env_cfg):
        processes = dict(env_cfg.get('mp_cfg') or {})
        # Windows has no fork. On macOS a forked process may crash in Apple's libraries.
        processes['mp_start_method'] = processes.get('mp_start_method') or (
            'fork' if hasattr(os, 'fork') and sys.platform != 'darwin' else 'spawn')
        super().setup_env({**env_cfg, 'mp_cfg': processes})
        if distributed.is_main():
            remove_unfinished(self.work_dir, _RUN_FILES)
            if not self._resume_from and not self._restarted:
                self._set_aside()
        distributed.barrier()

    def _set_aside(self):
        """Move an earlier run's files into a folder of their own, so that a new run neither uses nor deletes them."""
        folder = Path(self.work_dir)
        left = [path for pattern in _RUN_FILES for path in folder.glob(pattern)]
        start = self.cfg.get('load_from')
        start = start.get('path') if isinstance(start, dict) else start
        if left and start and Path(start).resolve() in [path.resolve() for path in (folder, *left)]:
            raise SettingError(f'load_from={str(start)!r} lies in the folder of this run, whose files are moved aside '
                               'before it starts; give the run another --work-dir')
        if left:
            # Two runs may start in the same second.
            names = itertools.chain([f'before_{self.timestamp}'],
                                    (f'before_{self.timestamp}_{number}' for number in itertools.count(2)))
            self._earlier_run = next(folder / name for name in names if not (folder / name).exists())
            self._earlier_run.mkdir()
            for path in left:
                path.rename(self._earlier_run / path.name)

    def set_randomness(self, seed=None, **kwargs):
        if not is_number(seed, 0, whole=True):
            raise SettingError(f'randomness.seed={seed!r}: a whole number from 0 is needed; the order of samples and '
                               'all noise derive from it')
        super().set_randomness(seed, **kwargs)
        # The model is built next, with the same weights on every rank.
        import torch
        torch.manual_seed(mix_seed('initial weights', seed))

    # Build parts here: MMEngine's errors name a class in place of a key of the config.

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
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        rows = dict(optim_wrapper)
        with located('optim_wrapper'):
            return OPTIM_WRAPPER_CONSTRUCTORS.build(
                dict(type=rows.pop('constructor', 'TurnOptimizers')), optim_wrapper_cfg=rows)(self.model)

    def build_param_scheduler(self, scheduler):
        if isinstance(scheduler, ParamSchedules):
            return scheduler
        return ParamSchedules(scheduler, self.optim_wrapper, self.max_iters)

    def _check_scheduler_cfg(self, param_scheduler):
        """Skip MMEngine's check: ParamSchedules makes a more precise one."""

    def _check_schedules(self):
        if not self.param_schedulers:
            self.param_schedulers = None
            return
        if any(getattr(hook, 'sets_learning_rate', False) for hook in self.hooks):
            raise SettingError('param_scheduler and LearningRateHook both set the learning rate; add '
                               'default_hooks=dict(learning_rate=None) to use param_scheduler')
        if not any(hasattr(hook, 'applies_param_scheduler') for hook in self.hooks):
            self._build_hook(dict(type='ParamSchedulerHook'), 'param_scheduler')

    def wrap_model(self, model_wrapper_cfg, model):
        model = model.to(default_device())
        if distributed.is_distributed():
            model.distribute(**(model_wrapper_cfg or {}))
        return model

    def build_visualizer(self, visualizer=None):
        # One folder for the whole run; MMEngine makes a new one at each start.
        try:
            return super().build_visualizer(None if visualizer is None else {'save_dir': self.work_dir, **visualizer})
        except (LookupError, TypeError) as error:
            raise SettingError(f'visualizer={visualizer!r}: {error}') from error

    def register_default_hooks(self, hooks=None):
        """Register only the rows of the config that are not None."""
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
            if isinstance(cfg, Hook):
                hook, priority = cfg, None
            else:
                settings = dict(cfg) if isinstance(cfg, dict) else {}
                priority = settings.pop('priority', None)
                hook = _build_hook(settings)
            try:
                self.register_hook(hook, priority)
            except (LookupError, TypeError, ValueError) as error:
                raise SettingError(f"priority={priority!r}: {', '.join(Priority.__members__)}, or 0 to 100") from error

    def call_hook(self, fn_name, **kwargs):
        # MMEngine's version would lose the traceback of a TypeError.
        for hook in self._hooks:
            if hasattr(hook, fn_name):
                with _settings_of_engine_hook(hook if fn_name == 'before_run' else None):
                    getattr(hook, fn_name)(self, **kwargs)
                if self.in_training and self.train_loop.stop_training and not self.train_loop.stopped_by:
                    self.train_loop.early_stop = self.train_loop.early_stop or type(hook).__name__

    def get_hooks_info(self):
        return ', '.join(type(hook).__name__ for hook in self.hooks)

    def dump_config(self):
        """Write the full config into ``work_dir``, without the keys in `STARTED_BY`: the copy then starts a new run."""
        whole = self.cfg
        kept = {key: value for key, value in whole.to_dict().items() if key not in STARTED_BY}
        self.cfg = Config(kept, cfg_text=whole.text, filename=whole.filename)
        super().dump_config()
        self.cfg = whole

    def _log_env(self, env_cfg):
        """Log nothing: RunHeaderHook logs more, and MMEngine's version imports torchvision without the shim."""

    def train(self):
        """Train to ``train_cfg.max_iters``; returns the model. SettingError, before training, for invalid settings."""
        val_loop = self.val_loop
        validation = () if val_loop is None else (val_loop.dataloader.dataset, val_loop.evaluator)
        rehearse(self.model, self.train_loop.dataloader.dataset, *validation,
                 sizes=[stage.size for stage in self.train_loop.stages if stage.size is not None])
        return super().train()

    def val(self):
        """Scores of the current weights, name -> mean; before training, of the weights that the run starts from."""
        if self._val_loop is None:
            raise SettingError('val(): the config has no validation; set val_dataloader, val_cfg and val_evaluator')
        self._build_training()
        return super().val()

    def test(self):
        raise SettingError('test(): val() returns the scores, tools/test.py CONFIG MODEL those of a checkpoint')

    def resume(self, filename, **kwargs):
        """Load a training checkpoint now; True loads the newest one of the work dir."""
        if kwargs:
            raise SettingError(f'resume({next(iter(kwargs))}=): use cfg.resume_drop, a list of what not to continue')
        moved = self._earlier_run and filename is not True and self._earlier_run / Path(filename).name
        if filename is True and self._earlier_run or moved and moved.exists() and not Path(filename).exists():
            raise SettingError(f'resume({filename!r}): the files of the earlier run were moved to {self._earlier_run} '
                               'when this runner was made; set cfg.resume before')
        self._build_training()
        self.call_hook('before_run')
        self._resume_from, self._has_loaded = filename, False
        self.load_or_resume()

    def load_checkpoint(self, filename, *args, **kwargs):
        raise SettingError('load_checkpoint(): set cfg.load_from to start from weights, or call resume(PATH) to go on '
                           'with a run')

    def save_checkpoint(self, *args, **kwargs):
        raise SettingError('save_checkpoint(): CheckpointHook writes the checkpoints; its save(runner, runner.iter) '
                           'writes one now')

    def _build_training(self):
        """Build the parts that a checkpoint fills."""
        self._train_loop = self.build_train_loop(self._train_loop)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)

    def log_number(self, name, value, phase='train'):
        """Add a hook's number to the log, see `LoggerHook.log_number`; nothing happens without that hook."""
        for hook in self.hooks:
            if hasattr(hook, 'log_number'):
                hook.log_number(name, value, phase)

    @property
    def in_training(self):
        """Whether ``train`` is running, including its validations."""
        return getattr(self._train_loop, 'running', False)

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
            # A run that torchrun restarts dropped these parts at its first start.
            dropped = () if newest and self._restarted else self.cfg.get('resume_drop') or ()
            resuming.continue_from(self, newest or named, dropped)
        elif self._load_from:
            with located('load_from'):
                self._start(_load_from_options(self._load_from))

    def _start(self, options):
        fresh = start_from(self.model, **options)
        message = f'started from {options["path"]}'
        if fresh:
            message += f'; new: {", ".join(fresh)}'
        self.logger.info(message)
        self.call_hook('after_load_weights')

    # state --------------------------------------------------------------------------------------

    @cached_property
    def record(self):
        """Description of this run that its checkpoints store; see ``describe_run``."""
        return describe_run(self)

    def state(self, iteration):
        """Everything needed to continue after ``iteration`` updates: tensors and plain values."""
        return resuming.state(self, iteration)


def _build_hook(settings):
    kind = settings.get('type')
    cls = find_part(kind, HOOKS) if isinstance(kind, str) else kind
    with _settings_of_engine_hook(cls):
        return HOOKS.build(settings)


@contextlib.contextmanager
def _settings_of_engine_hook(hook):
    """Turn an error about the settings of a MMEngine hook into a SettingError."""
    try:
        yield
    except (AssertionError, ImportError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, UserError) or not _is_engine_s(hook):
            raise
        text = ' '.join(str(error).split())
        raise SettingError(f'{getattr(hook, "__name__", type(hook).__name__)}: {text}') from error


def _is_engine_s(part):
    cls = part if isinstance(part, type) else type(part)
    return cls.__module__.startswith('mmengine.')


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
