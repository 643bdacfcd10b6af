"""Options of the runs of a few iterations that tests stop and resume."""

LENGTH, STOP = 9, 5
BASE = {
    'train_cfg.max_iters': LENGTH, 'train_cfg.val_interval': 4, 'default_hooks.checkpoint.interval': STOP,
    # 3 does not divide 5: the stop lies in the middle of a row's window.
    'default_hooks.logger.interval': 3,
    'default_hooks.header': None, 'default_hooks.curves': None, 'default_hooks.pictures': None}
# StopAt ends a run as a hook does, which counts as an early stop.
RESUME = ('--resume', '--resume-drop', 'early_stop')


def stop(how='stop', iteration=STOP, rank=None):
    """Options that end a run, see run_probes.StopAt."""
    return {'custom_hooks': [dict(type='run_probes.StopAt', iteration=iteration, how=how, rank=rank)]}
