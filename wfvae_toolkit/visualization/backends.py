"""Weights & Biases and MLflow, one line of config each: ``visualizer.vis_backends``.

MMEngine's backends with these faults corrected: its W&B backend counts steps of its own; its MLflow backend needs a
file name for a picture and does not work with a folder as its store; both upload files of the working folder unasked.
"""

import os
from pathlib import Path

from mmengine.visualization import vis_backend as stock

from wfvae_toolkit.registry import VISBACKENDS
from wfvae_toolkit.utils.errors import import_extra


@VISBACKENDS.register_module()
class WandbVisBackend(stock.WandbVisBackend):
    """Scalars, pictures and the config in Weights & Biases, all at the run's iteration.

    Args:
        init_kwargs (dict): arguments of ``wandb.init``, such as ``project``, ``name``, ``mode='offline'``.
        others: see MMEngine's ``WandbVisBackend``; ``commit`` and ``log_code_name`` have no effect.

    Raises:
        ImportError: wandb is not installed.
    """

    def _init_env(self):
        import_extra('wandb')
        super()._init_env()

    def add_config(self, config, **kwargs):
        # MMEngine's version also uploads every .py file under the working folder.
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def add_image(self, name, image, step=0, **kwargs):
        self.add_scalars({name: self.experiment.Image(image)}, step)

    def add_scalar(self, name, value, step=0, **kwargs):
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        # No commit=: it would close the step, and W&B would then drop the validation's values for this step.
        self.experiment.log(dict(scalar_dict), step=step)

    def close(self):
        if hasattr(self, '_wandb'):
            self._wandb.finish()


@VISBACKENDS.register_module()
class MLflowVisBackend(stock.MLflowVisBackend):
    """Scalars, the config and pictures (``NAME/iter_N.png``) in MLflow; the settings are those of MMEngine's backend.

    ``artifact_suffix`` has no effect: no files of the run's folder are uploaded.

    Without ``tracking_uri`` and the variable MLFLOW_TRACKING_URI, data goes to ``mlflow.db`` and ``mlartifacts/`` in
    ``vis_data/``. MLflow 3 refuses MMEngine's default, a folder of files.

    Raises:
        ImportError: mlflow is not installed.
    """

    def _init_env(self):
        import_extra('mlflow')
        self._tracking_uri = self._tracking_uri or os.environ.get('MLFLOW_TRACKING_URI')
        if self._tracking_uri is None:
            folder = Path(self._save_dir).resolve()
            self._tracking_uri = f'sqlite:///{folder}/mlflow.db'
            self._artifact_location = self._artifact_location or f'{folder}/mlartifacts'
        # Do not use the experiment 'Default': it exists already, with its artifacts in the working folder.
        self._exp_name = self._exp_name or 'wfvae_toolkit'
        super()._init_env()

    def add_image(self, name, image, step=0, **kwargs):
        self.experiment.log_image(image, f'{name}/iter_{step}.png')

    def close(self):
        # MMEngine's version uploads every log and config under the run's folder, and this store itself.
        if hasattr(self, '_mlflow'):
            self._mlflow.end_run()
