"""Early warning of grids and stripes in flat areas."""

from mmengine.hooks import Hook

from wfvae_toolkit.evaluation.flat_fields import LEVELS, measure_flat_fields
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError

# RMS in 8-bit levels. A sine with this RMS has an amplitude of 0.7: more than half a level, so it survives rounding to
# 8 bits. At mid grey its contrast is 2.2 * 0.7 / 128 = 1.2 %, twice the lowest visible one (0.5 %, Campbell and Robson
# 1968).
VISIBLE = 0.5


@HOOKS.register_module()
class FlatFieldHook(Hook):
    """Adds ``flat/grid``, ``flat/stripes`` and ``flat/offset`` to a validation's metrics, in 8-bit levels.

    The averaged weights reconstruct images of one colour (``evaluation/flat_fields.py``); the columns are the worst
    values. A pattern above VISIBLE is a warning in the console.

    Args:
        interval (int): updates between checks; a check waits for the next validation. 1: at every validation.
        levels (Sequence[int | tuple[int, int, int]]): greys or RGB, 0 to 255.

    Raises:
        SettingError: an interval below 1, no levels, or a level out of range.
    """

    higher_is_better = {'flat/grid': False, 'flat/stripes': False, 'flat/offset': False}

    def __init__(self, interval=1, levels=LEVELS):
        values = [value for level in levels for value in ([level] if isinstance(level, int) else level)]
        if interval < 1 or not values or not all(0 <= value <= 255 for value in values):
            raise SettingError(f'FlatFieldHook: interval={interval} (1 or more), levels={levels} (greys or RGB, 0 to '
                               '255)')
        self.interval = interval
        self.levels = tuple(levels)

    def after_val_epoch(self, runner, metrics=None):
        since = runner.iter - runner.train_loop.val_interval
        not_due = runner.iter // self.interval == since // self.interval and runner.iter != runner.max_iters
        if runner.in_training and not_due:
            return
        fields = None
        if distributed.is_main():
            averaged = runner.averaged_autoencoder
            autoencoder = runner.model.autoencoder if averaged is None else averaged
            fields = measure_flat_fields(autoencoder, self.levels, default_device())
        fields = distributed.of_main(fields)
        worst = {name: max(fields, key=lambda field, name=name: getattr(field, name))
                 for name in ('grid', 'stripes', 'offset')}
        # Add to the metrics: they are then logged, drawn and published together with the scores.
        metrics.update({f'flat/{name}': getattr(field, name) for name, field in worst.items()})
        patterns = [f'{name} of {getattr(worst[name], name):.2f} levels RMS at RGB {worst[name].colour}'
                    for name in ('grid', 'stripes') if getattr(worst[name], name) > VISIBLE]
        if patterns:
            runner.logger.warning(f'patterns in flat areas: {", ".join(patterns)}. Above {VISIBLE} they are visible. '
                                  'Early in a run this is usual; if they stay or grow, it is a fault')
