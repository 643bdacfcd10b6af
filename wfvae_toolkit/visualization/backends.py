"""Weights & Biases and MLflow, one line of config each: ``visualizer.vis_backends``.

MMEngine's own, changed where they lose something: W&B counted its own steps, and an MLflow picture needs a file name.
"""

from mmengine.visualization import vis_backend as stock

from wfvae_toolkit.registry import VISBACKENDS
from wfvae_toolkit.utils.errors import import_extra


@VISBACKENDS.register_module()
class WandbVisBackend(stock.WandbVisBackend):
    """Scalars, pictures and the config in Weights & Biases, all at the run's iteration.

    Args:
        init_kwargs (dict): of ``wandb.init``, such as ``project``, ``name``, ``mode='offline'``.
        others: of MMEngine's ``WandbVisBackend``; ``commit`` and ``log_code_name`` have no effect.

    Raises:
        ImportError: wandb is not installed.
    """

    def _init_env(self):
        import_extra('wandb')
        super()._init_env()

    def add_config(self, config, **kwargs):
        # Without MMEngine's upload of every .py file under the working folder.
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def add_image(self, name, image, step=0, **kwargs):
        self.add_scalars({name: self.experiment.Image(image)}, step)

    def add_scalar(self, name, value, step=0, **kwargs):
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        # No commit=: it would close the step, and what validation adds to it would be dropped.
        self.experiment.log(dict(scalar_dict), step=step)

    def close(self):
        if hasattr(self, '_wandb'):
            self._wandb.finish()


@VISBACKENDS.register_module()
class MLflowVisBackend(stock.MLflowVisBackend):
    """Scalars, the config and pictures (``NAME/iter_N.png``) in MLflow; settings as of MMEngine's.

    Raises:
        ImportError: mlflow is not installed.
    """

    def _init_env(self):
        import_extra('mlflow')
        super()._init_env()

    def add_image(self, name, image, step=0, **kwargs):
        self.experiment.log_image(image, f'{name}/iter_{step}.png')
