"""Stages of a training: pictures that grow, with another batch for each size."""

from typing import NamedTuple

from wfvae_toolkit.utils.errors import SettingError, is_number

KEYS = ('start_iter', 'size', 'batch_size', 'accumulation')


class Stage(NamedTuple):
    """Iterations from ``start_iter`` to the next stage.

    Attributes:
        start_iter (int): the first of them.
        size (int | None): edge of the crops in px; None: as the dataset has it.
        batch_size (int): pictures of a micro-batch and rank.
        accumulation (int): micro-batches of an update.
    """

    start_iter: int
    size: int | None
    batch_size: int
    accumulation: int


def read_stages(stages, batch_size, accumulation):
    """Checked `Stage` list of ``train_cfg.stages``; one stage where there are none.

    Args:
        stages (list[dict] | None): with the keys of `Stage`; what one leaves out is as in the stage before.
        batch_size, accumulation (int): of the config, for the first stage.

    Raises:
        SettingError: a key or a number is wrong, or the stages do not begin one after the other from iteration 0.
    """
    found = [Stage(0, None, batch_size, accumulation)]
    for number, row in enumerate(stages or ()):
        place = f'train_cfg.stages.{number}'
        if not isinstance(row, dict) or 'start_iter' not in row or row.keys() - set(KEYS):
            raise SettingError(f'{place}={row!r}: use dict(start_iter=1000, size=512, batch_size=4, accumulation=1)')
        for key, value in row.items():
            if not (is_number(value, 0 if key == 'start_iter' else 1, whole=True) or key == 'size' and value is None):
                raise SettingError(f'{place}.{key}={value!r}: use a whole number from {int(key != "start_iter")}')
        first = number == 0
        if row['start_iter'] != 0 if first else row['start_iter'] <= found[-1].start_iter:
            raise SettingError(f'{place}.start_iter={row["start_iter"]}: '
                               + ('the first stage begins at 0' if first else
                                  f'a stage begins after the one before, which does so at {found[-1].start_iter}'))
        found.append(found[-1]._replace(**row))
        if first:
            del found[0]
    sizes = {stage.size for stage in found}
    if len(sizes) > 1 and None in sizes:
        raise SettingError('train_cfg.stages: give the first stage a size too, because others have one')
    return found


def check_normalized(stages, normalize):
    """SettingError if the size changes and the loss would change its scale with it."""
    if len({stage.size for stage in stages}) > 1 and not normalize:
        raise SettingError('train_cfg.stages: the size changes, and with it the scale of the loss, which is a sum over '
                           'an image: set model.normalize=True')


def stage_at(stages, iteration):
    """The `Stage` that an iteration belongs to."""
    return [stage for stage in stages if stage.start_iter <= iteration][-1]


def pictures_between(stages, first, end):
    """Pictures of one rank in the iterations from ``first`` to ``end`` - 1, none of them skipped."""
    ends = [*(stage.start_iter for stage in stages[1:]), end]
    return sum(stage.batch_size * stage.accumulation * max(0, min(end, stop) - max(first, stage.start_iter))
               for stage, stop in zip(stages, ends, strict=True))
