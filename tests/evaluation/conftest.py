"""What a metric gets, made by a small model."""

import pytest
import torch

from wfvae_toolkit.evaluation import EvaluationBatch


@pytest.fixture
def reconstructed(make_model):
    """Two images in [-1, 1] -> EvaluationBatch of them and of what a 4x model with three latent channels makes."""
    @torch.no_grad()
    def reconstruct(images):
        autoencoder = make_model().autoencoder.eval()
        posterior = autoencoder.encode(images).latent_dist
        made = autoencoder.decode(posterior.mode()).sample
        return EvaluationBatch((images + 1) / 2, (made.clamp(-1, 1) + 1) / 2, posterior.mode(), ('a.png', 'b.png'),
                               posterior, autoencoder)
    return reconstruct
