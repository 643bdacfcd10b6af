import re

import pytest
import torch

from tests.training.helpers import ADVERSARIAL, KL, PIXEL, assert_same, gradients, weights
from wfvae_toolkit.training import TurnOptimizers


def test_turns_alternate_once_the_discriminator_started(make_model):
    model = make_model()
    assert [model.turns_of(i) for i in range(4)] == [('autoencoder',), ('discriminator',)] * 2
    model.discriminator_trains = False
    assert {model.turns_of(i) for i in range(4)} == {('autoencoder',)}
    without = make_model(losses=dict(pixel=PIXEL))
    assert {without.turns_of(i) for i in range(4)} == {('autoencoder',)}
    assert without.discriminator is None
    with pytest.raises(RuntimeError, match='no adversarial loss row'):
        without.discriminator_turn(torch.zeros(1, 3, 24, 24))


def test_state_dict_holds_networks_only(make_model):
    model = make_model(losses=dict(pixel=PIXEL, perceptual=dict(type='STLPIPSLoss'), adversarial=ADVERSARIAL))
    roots = {re.match(r'\w+', key)[0] for key in model.state_dict()}
    assert roots == {'autoencoder', 'discriminator'}


def test_forward_reconstructs_through_the_mean(make_model, make_images):
    model = make_model()
    assert torch.equal(model(make_images()), model.autoencoder(make_images()))


# settings

@pytest.mark.parametrize(('settings', 'message'), [
    (dict(precision='fp8'), "precision='fp8': use one of fp32, bf16"),
    (dict(losses=dict(pixel=PIXEL, adversarial={**ADVERSARIAL, 'balance': ('pixels',)})),
     'losses.adversarial.balance names pixels; rows: .*pixel'),
    (dict(discriminator=None), 'losses.adversarial needs model.discriminator'),
    (dict(losses=dict(pixel=PIXEL, one=ADVERSARIAL, two=ADVERSARIAL)), 'one and two are both adversarial'),
    (dict(losses=dict(pixel=None, kl=KL, adversarial=ADVERSARIAL)), 'every row in it is None'),
    (dict(losses=dict(pixel=None)), 'at least one row is needed'),
])
def test_settings_that_cannot_work(make_model, settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


def test_feature_matching_alone_has_no_discriminator_to_match(make_model):
    with pytest.raises(ValueError, match='losses.matching needs a discriminator that trains'):
        make_model(losses=dict(pixel=PIXEL, matching=dict(type='FeatureMatchingLoss')))


# precision, memory and speed

def test_bf16_is_close(make_model, make_images):
    turns = []
    for precision in ('fp32', 'bf16'):
        model = make_model(precision=precision)
        loss, log = model.autoencoder_turn(make_images(), sample_posterior=False)
        loss.backward()
        scores = model.discriminator_turn(make_images(), sample_posterior=False)[0]
        turns.append((loss, log, gradients(model.autoencoder), scores))
    (loss, log, gradient, scores), (bf16_loss, bf16_log, bf16_gradient, bf16_scores) = turns
    assert bf16_loss.dtype == torch.float32
    assert bf16_loss.item() == pytest.approx(loss.item(), rel=0.02)
    assert bf16_loss.item() != loss.item()
    assert bf16_log['wavelet'].item() == pytest.approx(log['wavelet'].item(), rel=0.02)
    assert bf16_scores.item() == pytest.approx(scores.item(), rel=0.05)
    whole, bf16_whole = (torch.cat([value.flatten() for value in found.values()])
                         for found in (gradient, bf16_gradient))
    assert (bf16_whole - whole).norm() <= 0.1 * whole.norm()


def test_checkpointed_activations_give_the_same_gradients(make_model, make_images):
    found = []
    for checkpointed in (False, True):
        model = make_model(autoencoder=dict(checkpoint_activations=checkpointed))
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            loss, _ = model.autoencoder_turn(make_images(), sample_seeds=[1, 2])
        loss.backward()
        found.append((gradients(model.autoencoder), sum(saved)))
    assert_same(found[1][0], found[0][0], 1e-6)
    assert found[1][1] < 0.8 * found[0][1]


@pytest.mark.slow
def test_compiled_networks_give_the_same_gradients_under_the_same_names(make_model, make_images):
    plain, compiled = make_model(), make_model(compile={})
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for model in (plain, compiled):
        model.autoencoder_turn(make_images(), sample_seeds=[1, 2])[0].backward()
    assert_same(gradients(compiled.autoencoder), gradients(plain.autoencoder), 1e-4)


# freezing

def test_frozen_weights_stay_bit_identical(make_model, make_images, make_batch):
    row = dict(optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1))
    model = make_model(freeze=['autoencoder.encoder.*'])
    optimizers = TurnOptimizers(dict(autoencoder=row, discriminator=row))(model)
    before = weights(model)
    for iteration in range(4):
        model.train_step([make_batch(make_images(seed=iteration))], optimizers, model.turns_of(iteration))
    after = weights(model)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert not any(name.startswith('autoencoder.encoder.') for name in moved)
    assert any(name.startswith('autoencoder.decoder.') for name in moved)


def test_freezing_is_checked(make_model, make_images):
    with pytest.raises(ValueError, match=r"freeze='encoder\.\*' matches no parameter; names start with"):
        make_model(freeze=['encoder.*'])
    with pytest.raises(ValueError, match='last layer.*balance=\\(\\)'):
        make_model(freeze=['autoencoder.decoder.conv_out.*'])
    model = make_model(freeze=['autoencoder.*'], losses=dict(pixel=PIXEL))
    with pytest.raises(ValueError, match='nothing of the autoencoder to train'):
        model.autoencoder_turn(make_images())
