"""Says before the first iteration how much memory each phase of the run will take."""

import torch
from mmengine.hooks import Hook

from wfvae_toolkit.datasets import collate_training
from wfvae_toolkit.datasets.base import crop_sizes
from wfvae_toolkit.datasets.loader import set_size
from wfvae_toolkit.models.perceptual.network import PerceptualNetwork
from wfvae_toolkit.models.sizes import size_text
from wfvae_toolkit.registry import HOOKS
from wfvae_toolkit.training.memory import Load, NotCounted, count_memory, describe, largest_size
from wfvae_toolkit.training.memory_fit import ways_to_fit
from wfvae_toolkit.training.memory_measured import TooLarge, measure_memory, with_measured
from wfvae_toolkit.training.stages import stage_at
from wfvae_toolkit.utils import distributed
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError


@HOOKS.register_module()
class MemoryForecastHook(Hook):
    """Logs the peak memory of both turns, of validation and of a checkpoint before the run's first iteration.

    With ``train_cfg.stages`` each stage that the run has still to go through has a forecast of its own. Where pictures
    have several sizes, such as those of `AspectBuckets`, the one with the most pixels counts.

    On a GPU the peaks are measured: both turns and a validation run with the whole batch, without an update. A phase
    that does not fit is then an error before training, which names settings that would fit. Elsewhere the peaks are
    counted without the network's arithmetic. The run's numbers do not change.

    Raises:
        SettingError: a phase does not fit into the GPU's memory.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner):
        forecasts = 0
        for load in loads_of(runner):
            self._forecast(runner, load)
            forecasts += 1
        if not forecasts:
            runner.logger.info('memory: no forecast, because train_dataloader.dataset.pipeline does not end in a crop')

    def _forecast(self, runner, load):
        model, device = runner.model, default_device()
        extras = _extras(runner, load)
        networks = _scoring_networks(runner)

        def count(load):
            return count_memory(model, runner.cfg.optim_wrapper.to_dict(), load, extras, networks)

        try:
            increases = None
            if device.type == 'cuda':
                networks = [network.to(device) for network in networks]
                increases = measure_memory(model, runner.optim_wrapper, load, extras, networks)
            if distributed.is_main():
                forecast = count(load)
                if increases is not None:
                    forecast = with_measured(forecast, increases, f'measured on {torch.cuda.get_device_name(device)}')
                runner.logger.info('\n  '.join(describe(forecast)))
        except NotCounted as error:
            runner.logger.warning(f'memory: no forecast: {error}')
        except TooLarge as error:
            raise _does_not_fit(runner, load, count, error.args[0], device) from error


def loads_of(runner):
    """Yield the load of each stage from the present one on; none if the training pictures have any size.

    The dataset has the size of the stage meanwhile. The loop sets that of its own stage after this hook.
    """
    loop = runner.train_loop
    dataset = loop.dataloader.dataset
    validation = runner.val_loop and runner.val_loop.dataloader
    start = max((hook.start_iter for hook in runner.hooks if hasattr(hook, 'start_iter')), default=0)
    run = Load(loop.dataloader.batch_size, 0, val_batch=validation.batch_size if validation else None,
               val_size=largest_size(crop_sizes(validation.dataset)) if validation else None,
               average=runner.averaged_autoencoder is not None, start_iter=start, world_size=distributed.world_size())
    for stage in loop.stages:
        if stage.start_iter < stage_at(loop.stages, loop.iter).start_iter:
            continue
        if stage.size is not None:
            set_size(dataset, stage.size)
        size = largest_size(crop_sizes(dataset))
        if size is not None:
            yield run.in_stage(stage, size)


def _extras(runner, load):
    """Extra fields of a sample of the load's size, as of a whole batch; losses may need them."""
    dataset = runner.train_loop.dataloader.dataset
    if not getattr(dataset, 'has_extras', False):
        return {}
    first = dataset.first_of(load.shape) if hasattr(dataset, 'first_of') else 0
    return collate_training([dataset[first]] * load.batch).extras


def _scoring_networks(runner):
    metrics = runner.val_loop.evaluator.metrics.values() if runner.val_loop else ()
    return [metric.network for metric in metrics if isinstance(getattr(metric, 'network', None), PerceptualNetwork)]


def _does_not_fit(runner, load, count, phase, device):
    torch.cuda.empty_cache()
    limit = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
    try:
        ways = ways_to_fit(load, count, limit, runner.model.precision, runner.model.autoencoder.downsample_factor)
    except NotCounted as error:
        ways = [f'(what would fit cannot be counted: {error})']
    advice = '; '.join(ways) or 'no batch, precision, crop or recomputation that the toolkit knows'
    return SettingError(f'{phase}: {load.batch} images of {size_text(load.shape)} px in {runner.model.precision} do '
                        f'not fit into the {limit / 2**30:.2f} GiB that this run has on {device}. By count these '
                        f'would: {advice}')
