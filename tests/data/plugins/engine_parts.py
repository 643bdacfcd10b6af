"""What a user of MMEngine brings: a hook that reads ``outputs``, one that writes to the message hub, a BaseMetric."""

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub

from wfvae_toolkit.registry import METRICS


class ReadsOutputs(Hook):
    """``seen``: loss of every iteration, from ``outputs`` as the dict of scalars that MMEngine's models return."""

    seen = []

    def before_run(self, runner):
        self.seen.clear()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        scalars = {name: value.item() for name, value in outputs.items()}
        self.seen.append(scalars.get('loss', scalars.get('discriminator')))


class WritesToHub(Hook):
    """A number an iteration and one a validation."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        MessageHub.get_current_instance().update_scalar('train/temperature', float(batch_idx))
        runner.message_hub.update_scalar('without_prefix', 2.0 * batch_idx)

    def after_val_epoch(self, runner, metrics=None):
        runner.message_hub.update_scalar('val/temperature', 36.6)


class CountsCalls(Hook):
    """``calls``: how often each stage of a validation was called."""

    calls = {}

    def before_run(self, runner):
        self.calls.clear()

    def _count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self._count('before_val_iter')

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._count('after_val_iter')


@METRICS.register_module()
class WholeSetError(BaseMetric):
    """Mean absolute error, from one result an image, and the largest."""

    default_prefix = 'error'

    def process(self, data_batch, data_samples):
        assert len(data_batch['inputs']) == len(data_samples)
        self.results += [(sample['img_path'], (sample['gt_img'] - sample['pred_img']).abs().mean())
                         for sample in data_samples]

    def compute_metrics(self, results):
        self.paths = [path for path, _ in results]
        errors = [error.item() for _, error in results]
        return {'mean': sum(errors) / len(errors), 'of/worst': max(errors)}


class Undefined(WholeSetError):
    """One whose score is no number."""

    def compute_metrics(self, results):
        return {'mean': float('nan')}
