"""A training that discriminators of every kind go through."""

import pytest
import torch


@pytest.fixture
def train_with_every_row(make_model, make_images, make_batch, make_optimizers):
    """Four updates of a discriminator config with penalties and feature matching; all of its weights have to move."""
    def train(discriminator, **settings):
        losses = dict(pixel=dict(type='L1Loss'), adversarial=dict(type='AdversarialLoss', balance=('pixel',)),
                      matching=dict(type='FeatureMatchingLoss'), r1=dict(type='R1Penalty'),
                      lecam=dict(type='LeCamLoss'))
        model = make_model(discriminator=discriminator, losses=losses, **settings)
        optimizers = make_optimizers(model)
        # Hinge terms of real and fake cancel in the gradient of a score's bias.
        weights = [parameter for name, parameter in model.discriminator.named_parameters() if 'score.bias' not in name]
        before = [weight.detach().clone() for weight in weights]
        for iteration in range(4):
            update = model.train_step([make_batch(make_images(2, 16, 16))], optimizers, model.turns_of(iteration))
            assert update.skipped is None
        assert {'r1', 'lecam', 'discriminator'} <= update.log.keys()
        assert not any(map(torch.equal, before, weights))
    return train
