"""Going on with a run: which checkpoint, what is put back and what is not."""

from wfvae_toolkit.checkpoints import CheckpointError, find_resumable, load_training_checkpoint
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.errors import SettingError

DROPPABLE = ('discriminator', 'optimizers')


def find_newest(runner, reason):
    """Path of the newest good checkpoint in the run's folder, or None; rank 0's choice, for all.

    A folder that the ranks do not share equally must not part them. ``reason`` is said where there is none.
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
    """Put a run into the state of a checkpoint, without the parts in ``dropped``, and say so.

    Raises:
        CheckpointError: unreadable, or it does not fit the config; the message names what.
    """
    restore(runner, without_parts(load_training_checkpoint(path), dropped, runner.model), path, dropped)
    without = f', without its {" and ".join(dropped)}' if dropped else ''
    runner.logger.info(f'resumed from {path} at iteration {runner.iter} of {runner.max_iters}{without}')


def state(runner, iteration):
    """Everything that continuing after ``iteration`` updates needs: tensors and plain values."""
    checkpoint = {
        'meta': {'iteration': iteration, 'seed': runner.seed, 'max_iters': runner.max_iters,
                 **runner.train_loop.state()},
        'state_dict': runner.model.state_dict(),
        'optimizers': {turn: wrapper.state_dict() for turn, wrapper in runner.optim_wrapper.items()},
    }
    runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
    return checkpoint


def restore(runner, checkpoint, path, dropped=()):
    """Inverse of ``state``; strict. CheckpointError names what does not fit."""
    meta = checkpoint['meta']
    if meta['seed'] != runner.seed:
        raise CheckpointError(f'{path}: was trained with randomness.seed={meta["seed"]}, the config says '
                              f'{runner.seed}; set it back to resume')
    _load_strictly(runner.model, checkpoint['state_dict'], path)
    if not dropped and set(checkpoint['optimizers']) != set(runner.optim_wrapper.keys()):
        raise CheckpointError(f'{path}: holds optimizers of {sorted(checkpoint["optimizers"])}, the config builds '
                              f'{sorted(runner.optim_wrapper.keys())}')
    for turn, optimizer_state in checkpoint['optimizers'].items():
        runner.optim_wrapper[turn].load_state_dict(optimizer_state)
    # Version 1 did not count those in a row.
    runner.train_loop.restore(meta['iteration'], meta['consumed'], meta['skipped'], meta.get('skipped_in_a_row', 0))
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)


def _load_strictly(model, state_dict, path):
    try:
        model.load_state_dict(state_dict, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f'{path} does not fit the model of the config: {error}') from None


def without_parts(checkpoint, parts, model):
    """A resumed checkpoint with some parts as the model has them now: 'discriminator', 'optimizers'."""
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
