"""Resume a run: choose the checkpoint and restore its state.

`CLASSES` says for every setting what happens if the resumed run has another value than the earlier run.
"""

import fnmatch
from dataclasses import dataclass

from wfvae_toolkit.checkpoints import CheckpointError, find_resumable, load_training_checkpoint
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError

from .record import changes, of_autoencoder
from .starting import misfits

DROPPABLE = ('discriminator', 'optimizers', 'early_stop')


@dataclass(frozen=True)
class Class:
    """What happens to a changed setting when a run is resumed.

    Args:
        effect (str): ``'takes effect'`` from the resumed iteration on; ``'refused'``: an error; ``'no effect'`` on the
            numbers.
        remark (str): further text for the log or the error.
        drop (str): one of ``DROPPABLE``; if the run drops that part, the setting takes effect.
    """

    effect: str
    remark: str = ''
    drop: str | None = None


_NEW = Class('takes effect')
_SCORES = Class('takes effect', 'scores before and after do not compare')
_NETWORK = Class('refused', 'it changes what the network computes')
_NOTHING = Class('no effect', 'no effect on the numbers')
_DISCRIMINATOR = Class('refused', "it changes the discriminator's structure", 'discriminator')

# Pattern of a dotted key, and of all keys below it -> its class. The first pattern that matches counts.
CLASSES = {
    'model.autoencoder.checkpoint_activations': _NOTHING,
    'model.autoencoder*.dropout': _NEW,
    'model.autoencoder': _NETWORK,
    'model.discriminator.weights': Class('takes effect', 'the heads go on with the features of this file'),
    'model.discriminator': _DISCRIMINATOR,
    'model.type': _NETWORK,
    'model.data_preprocessor': _NETWORK,
    'model.learn_logvar': Class('refused', 'it adds or removes a trained parameter'),
    'model.compile': Class('no effect', 'other kernels: equal to a tolerance, not to the bit'),
    **dict.fromkeys(('model.losses', 'model.turns', 'model.normalize', 'model.logvar', 'model.precision',
                     'model.freeze', 'model.latent_transforms',
                     'model.discriminator_augmentation'), _NEW),
    'optim_wrapper*.optimizer.type': Class('refused', 'the saved state belongs to another optimizer', 'optimizers'),
    'optim_wrapper.constructor': Class('refused', 'it builds the optimizers', 'optimizers'),
    **dict.fromkeys(('optim_wrapper.type', 'optim_wrapper.logvar_lr', 'optim_wrapper.autoencoder',
                     'optim_wrapper.discriminator', 'param_scheduler'), _NEW),
    'randomness.seed': Class('refused', 'order of samples and all noise derive from it'),
    **dict.fromkeys(('randomness.deterministic', 'randomness.diff_rank_seed', 'env_cfg.cudnn_benchmark'), _NEW),
    **{f'*_dataloader.{name}': _NOTHING for name in ('num_workers', 'pin_memory', 'prefetch_factor', 'timeout_s',
                                                    'persistent_workers', 'dataset*.cache_mib', 'dataset*.scan_cache',
                                                    'dataset*.index_folder', 'dataset*.sizes_cache',
                                                    'dataset*.remote')},
    **{f'train_dataloader.{name}': _NEW for name in ('batch_size', 'shuffle', 'max_images', 'dataset')},
    **{f'val_dataloader.{name}': _SCORES for name in ('shuffle', 'max_images', 'dataset')},
    'val_dataloader.batch_size': _NOTHING,
    **dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'), _SCORES),
    **{f'train_cfg.{name}': _NEW for name in ('type', 'max_iters', 'val_interval', 'accumulation', 'stages',
                                              'max_bad_files', 'max_skipped')},
    **dict.fromkeys(('default_hooks', 'custom_hooks', 'custom_imports', 'runner_type'), _NEW),
    'data_preprocessor': _NETWORK,
    **dict.fromkeys(('default_scope', 'log_level', 'visualizer', 'model_wrapper_cfg', 'env_cfg.mp_cfg',
                     'env_cfg.resource_limit', 'experiment_name', 'work_dir', 'launcher', 'resume', 'resume_drop',
                     'load_from', 'auto_scale_lr', 'log_processor', 'test_dataloader', 'test_cfg',
                     'test_evaluator'), _NOTHING),
}
# For a setting of a plug-in's part that the table does not list: the part is built from the new config.
UNKNOWN = Class('takes effect', 'of a part that the toolkit does not know')


def class_of(key):
    """Class of a setting, by its dotted key; ``UNKNOWN`` if no pattern matches."""
    return next((found for pattern, found in CLASSES.items()
                 if fnmatch.fnmatchcase(key, pattern) or fnmatch.fnmatchcase(key, f'{pattern}.*')), UNKNOWN)


def find_newest(runner, reason):
    """Path of the newest good checkpoint in the run's folder, or None.

    Rank 0 chooses for all ranks, because they may see different files. ``reason`` begins the log line if there is none.
    """
    path, error = None, None
    if distributed.is_main():
        try:
            path = find_resumable(runner.work_dir, runner.logger.warning)
        except CheckpointError as found:
            error = found
    path, error = distributed.of_main((path, error))
    if error is not None:
        raise error
    if path is None:
        runner.logger.info(f'{reason}: no checkpoint in {runner.work_dir}, starting at iteration 0')
    return path


def continue_from(runner, path, dropped=()):
    """Restore a checkpoint, without the parts in ``dropped``, and log what has changed since it was written.

    Raises:
        CheckpointError: the checkpoint is unreadable or does not fit the config; the message says what would work.
    """
    checkpoint = load_training_checkpoint(path)
    _check_discriminator(runner.model, checkpoint, path, dropped)
    differences = _compare(runner, checkpoint, path, dropped)
    restore(runner, without_parts(checkpoint, dropped, runner.model), path, dropped)
    without = f', without its {" and ".join(dropped).replace("_", " ")}' if dropped else ''
    runner.logger.info(f'resumed from {path} at iteration {runner.iter} of {runner.max_iters}{without}')
    settings, surroundings = differences
    if settings:
        runner.logger.info('\n  '.join(['settings that have changed', *settings]))
    if surroundings:
        runner.logger.warning('\n  '.join(['other things that have changed', *surroundings]))
    runner.resumed = f'{path} at iteration {runner.iter}', surroundings


def state(runner, iteration):
    """Everything needed to continue after ``iteration`` updates: tensors and plain values."""
    checkpoint = {
        'meta': {'iteration': iteration, 'seed': runner.seed, 'max_iters': runner.max_iters, 'run': runner.record,
                 **runner.train_loop.state()},
        'state_dict': runner.model.state_dict(),
        'optimizers': {turn: wrapper.state_dict() for turn, wrapper in runner.optim_wrapper.items()},
    }
    runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
    return checkpoint


def restore(runner, checkpoint, path, dropped=()):
    """Inverse of ``state``. CheckpointError if any name or shape does not fit."""
    meta = checkpoint['meta']
    restore_networks(runner, checkpoint, path, dropped)
    # Version 1 did not store the number of updates skipped in a row.
    runner.train_loop.restore(meta['iteration'], meta['consumed'], meta['skipped'], meta.get('skipped_in_a_row', 0),
                              meta.get('early_stop'))
    runner.train_loop.ignore_early_stop = 'early_stop' in dropped
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)


def restore_networks(runner, checkpoint, path, dropped=()):
    """Networks, losses and optimizers of a checkpoint; iteration and data stay. CheckpointError as of ``restore``."""
    _load_strictly(runner.model, checkpoint['state_dict'], path)
    built = sorted(turn for turn, _ in runner.optim_wrapper.items())
    if sorted(checkpoint['optimizers']) != [turn for turn in built if {turn, 'optimizers'}.isdisjoint(dropped)]:
        raise CheckpointError(f'{path}: holds optimizers of {sorted(checkpoint["optimizers"])}, the config builds '
                              f'{built}')
    for turn, optimizer_state in checkpoint['optimizers'].items():
        try:
            runner.optim_wrapper[turn].load_state_dict(optimizer_state)
        except CheckpointError as error:
            raise CheckpointError(f'{path}: optim_wrapper.{turn}.optimizer: {error}') from None


# what has changed -------------------------------------------------------------------------------

def _compare(runner, checkpoint, path, dropped):
    """Log lines in two lists: changed settings; and changed data, processes, versions and machine.

    Raises:
        CheckpointError: a setting whose effect is 'refused' has changed.
    """
    meta = checkpoint['meta']
    now, before = runner.record, meta.get('run')
    differences = _changed_settings(runner, meta)
    if before is None:
        # An old checkpoint without settings: compare the settings of its optimizers.
        differences += [(f'optim_wrapper.{turn}.optimizer.{name}', *pair) for turn, state in
                        checkpoint['optimizers'].items() if turn in runner.optim_wrapper and 'optimizers' not in dropped
                        for name, *pair in runner.optim_wrapper[turn].changes(state)]
        surroundings = [f'{path} is of an earlier version: settings other than those of autoencoder and optimizers, '
                        'data, processes, versions and machine cannot be compared']
    else:
        surroundings = _surroundings(before, now)
    lines, refused = [], []
    for key, *pair in differences:
        found = class_of(key)
        if key == 'model.logvar' and runner.model.logvar.requires_grad:
            found = Class('no effect', "it is learned, and the checkpoint's value is used")
        if found.effect == 'refused' and found.drop not in dropped:
            refused.append((key, *pair, found))
        else:
            remark = f' ({found.remark})' if found.remark and found.effect != 'refused' else ''
            lines.append(f'{key} {_short(pair[0])} -> {_short(pair[1])}{remark}')
    if refused:
        raise CheckpointError(_refusal(refused, path))
    return lines, surroundings


def _changed_settings(runner, meta):
    """[(key, before, now)] of all recorded settings; an old checkpoint recorded only those of the autoencoder."""
    before, now = (meta.get('run') or {}).get('settings', {}), runner.record['settings'] if 'run' in meta else {}
    # Compare what the networks compute: 2 layers equal [2, 2], and a missing norm equals the default one.
    autoencoders = of_autoencoder(meta['autoencoder']), of_autoencoder(runner.model.autoencoder_config)
    before, now = (
        {**{key: value for key, value in settings.items()
            if not (key.startswith('model.autoencoder.') and class_of(key) is _NETWORK)}, **autoencoder}
        for settings, autoencoder in zip((before, now), autoencoders, strict=True))
    found = changes(before, now)
    if 'run' not in meta and meta['seed'] != runner.seed:
        found.append(('randomness.seed', meta['seed'], runner.seed))
    if runner.model.discriminator is None:
        found = [change for change in found if change[0].split('.')[:2] not in (
            ['model', 'discriminator'], ['optim_wrapper', 'discriminator'])]
    return found


def _refusal(refused, path):
    changed = '; '.join(f'{key} was {_short(before)} and is {_short(now)} ({found.remark})'
                        for key, before, now, found in refused)
    drops = sorted({found.drop for *_, found in refused if found.drop})
    ways = [f'--resume-drop {" ".join(drops)} goes on with fresh ones'] if drops else []
    if any(found.drop is None for *_, found in refused):
        ways = [f"load_from='{path}' starts a new run from its weights"]
    return f'{path}: {changed}; set it back to resume, or {ways[0]}'


def _surroundings(before, now):
    """Differences other than settings, one line each."""
    lines = []
    for name, data in now['data'].items():
        old = before['data'].get(name)
        if old is not None and old != data:
            lines.append(f'{name}: another list of files, {old["files"]} before and {data["files"]} now; the order of '
                         'samples is another')
    lines += [f'model.losses.{name}: another teacher, {before["teachers"][name]} before, {source} now'
              for name, source in now['teachers'].items() if before['teachers'].get(name, source) != source]
    if before.get('features') and now['features'] and before['features'] != now['features']:
        lines.append(f'model.discriminator: other frozen features, {before["features"]} before, {now["features"]} now')
    for name, title in (('processes', 'processes'), ('images_per_iteration', 'images an iteration')):
        if before[name] != now[name]:
            lines.append(f'{title}: {before[name]} before, {now[name]} now')
    for part, remark in (('versions', ''), ('machine', '; equal to a tolerance, not to the bit')):
        for name in {**before[part], **now[part]}:
            pair = before[part].get(name), now[part].get(name)
            if pair[0] != pair[1]:
                lines.append(f'{name}: {pair[0]} before, {pair[1]} now{remark}')
    return lines


def _short(value):
    text = repr(value)
    return text if len(text) <= 200 else f'{text[:200]}...'


# parts ------------------------------------------------------------------------------------------

def _check_discriminator(model, checkpoint, path, dropped):
    """CheckpointError if only the checkpoint or only the config has a discriminator, unless it is dropped."""
    had = any(map(_of_discriminator, checkpoint['state_dict']))
    has = model.discriminator is not None
    if had != has and 'discriminator' not in dropped:
        what = ('has a discriminator, and the config trains without one (model.losses has no adversarial row)' if had
                else 'has no discriminator, and the config trains one')
        raise CheckpointError(f'{path}: {what}; set it back to resume, or --resume-drop discriminator goes on '
                              + ('without it' if had else 'with a fresh one'))


def _load_strictly(model, state_dict, path):
    problems = misfits(model.state_dict(), state_dict)
    if problems:
        shown = ', '.join(f'{name} ({what})' for name, what in list(problems.items())[:3])
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        advice = f"load_from=dict(path='{path}', allow_missing=[...]) starts a new run from its weights"
        if all(map(_of_discriminator, problems)):
            advice = '--resume-drop discriminator goes on with a fresh one'
        raise CheckpointError(f'{path} does not fit the model of the config: {shown}{more}; set it back to resume, or '
                              f'{advice}')
    model.load_state_dict(state_dict, strict=True)


def without_parts(checkpoint, parts, model):
    """A copy of a checkpoint in which the model's current state replaces 'discriminator' or 'optimizers'."""
    unknown = set(parts) - set(DROPPABLE)
    if unknown:
        raise SettingError(f'resume_drop: {sorted(unknown)[0]!r} is none of {", ".join(DROPPABLE)}')
    checkpoint = dict(checkpoint)
    if 'discriminator' in parts:
        kept = {name: value for name, value in checkpoint['state_dict'].items() if not _of_discriminator(name)}
        fresh = {name: value for name, value in model.state_dict().items() if _of_discriminator(name)}
        checkpoint['state_dict'] = kept | fresh
        checkpoint['optimizers'] = {turn: state for turn, state in checkpoint['optimizers'].items()
                                    if turn != 'discriminator'}
    if 'optimizers' in parts:
        checkpoint['optimizers'] = {}
    return checkpoint


def _of_discriminator(name):
    return name.startswith('discriminator.')
