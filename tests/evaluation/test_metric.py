import pytest
import torch

from wfvae_toolkit.evaluation import EvaluationBatch
from wfvae_toolkit.evaluation.metric import UnfitPicture
from wfvae_toolkit.utils.errors import SettingError

IMAGES = torch.zeros(1, 3, 4, 4)


def test_a_batch_gives_what_a_metric_needs_or_says_that_it_is_not_there():
    latents = torch.ones(1, 2, 1, 1)
    assert EvaluationBatch(IMAGES, IMAGES, latents).need('latents') is latents
    for name in ('latents', 'latent_dist', 'autoencoder'):
        with pytest.raises(SettingError, match=f'no {name} here: .*leave its row of val_evaluator.metrics out'):
            EvaluationBatch(IMAGES, IMAGES).need(name)


def test_an_unfit_picture_is_a_setting_error_that_an_evaluation_tells_apart():
    """`evaluate` lists the picture and goes on; any other SettingError ends it (tests/evaluation/test_run.py)."""
    assert issubclass(UnfitPicture, SettingError)
