import copy

import pytest
import torch

from tests.training.helpers import ADVERSARIAL, KL, PIXEL, LearnedScale, assert_same, gradients, weights
from wfvae_toolkit.training import TurnOptimizers

# the update

def test_an_update_is_the_gradient_times_the_rate(make_model, make_images, make_batch, make_optimizers):
    model = make_model()
    expected = copy.deepcopy(model)
    batch = make_batch(make_images())
    images = expected.data_preprocessor(batch.images)
    assert (images - make_images()).abs().max() <= 0.5 / 127.5 + 1e-6
    before = weights(model.autoencoder)
    expected.autoencoder_turn(images, sample_seeds=batch.seeds)[0].backward()
    model.train_step([batch], make_optimizers(model, lr=1e-3))
    change = {name: before[name] - value for name, value in weights(model.autoencoder).items()}
    assert_same(change, {name: 1e-3 * value for name, value in gradients(expected.autoencoder).items()}, 1e-4)


def test_clipping_and_its_log(make_model, make_images, make_batch, make_optimizers):
    model = make_model()
    before = weights(model.autoencoder)
    log = model.train_step([make_batch(make_images())],
                           make_optimizers(model, lr=1.0, clip_grad=dict(max_norm=0.5))).log
    change = torch.cat([(value - before[name]).flatten() for name, value in weights(model.autoencoder).items()])
    assert log['gradient_norm/autoencoder'].item() > 10
    assert change.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_two_micro_batches_equal_their_union(make_model, make_images, make_batch, make_optimizers):
    losses = dict(pixel=PIXEL, kl=KL, wavelet=dict(type='WaveletFlowLoss'), learned=dict(type=LearnedScale))
    images = make_images(4)
    results = []
    for batches in ([make_batch(images)], [make_batch(images[:2]), make_batch(images[2:], first_seed=2)]):
        model = make_model(losses=losses)
        before = weights(model)
        log = model.train_step(batches, make_optimizers(model, lr=1e-5)).log
        results.append(({name: value - before[name] for name, value in weights(model).items()}, log))
    (change, log), (accumulated, accumulated_log) = results
    assert 'losses.learned.logvar' in change
    assert_same(accumulated, change, 1e-4)
    for name, value in log.items():
        assert accumulated_log[name].tolist() == pytest.approx(value.tolist(), rel=1e-5), name


def test_two_micro_batches_with_masks_equal_their_union(make_model, make_images, make_batch, make_optimizers):
    images, mask = make_images(4), torch.arange(4 * 24 * 32).remainder(256).to(torch.uint8).reshape(4, 1, 24, 32)

    def batch(rows, first_seed=0):
        made = make_batch(images[rows], first_seed)
        made.extras = dict(mask=mask[rows])
        return made
    results = []
    for batches in ([batch(slice(4))], [batch(slice(2)), batch(slice(2, 4), first_seed=2)]):
        model = make_model(losses=dict(masked=dict(type='MaskedL1Loss')))
        before = weights(model)
        log = model.train_step(batches, make_optimizers(model, lr=1e-2)).log
        results.append(({name: value - before[name] for name, value in weights(model).items()}, log))
    (change, log), (accumulated, accumulated_log) = results
    assert_same(accumulated, change, 1e-4)
    assert accumulated_log['masked'].item() == pytest.approx(log['masked'].item(), rel=1e-5)


# turns

def test_isolation_across_optimizer_steps(make_model, make_images, make_batch, make_optimizers):
    model = make_model()
    optimizers = make_optimizers(model, lr=1e-5)
    for iteration in range(4):
        turn = model.turns_of(iteration)
        trained, other = ((model.autoencoder, model.discriminator) if iteration % 2 == 0
                          else (model.discriminator, model.autoencoder))
        before, before_other = weights(trained), weights(other)
        model.train_step([make_batch(make_images(seed=iteration))], optimizers, turn)
        unchanged = {name for name, value in weights(trained).items() if torch.equal(value, before[name])}
        # Inside both margins the hinge's slopes cancel at the last bias; softmax ignores a key's bias.
        assert unchanged <= {'score.bias', 'encoder.mid.1.key.bias', 'decoder.mid.1.key.bias'}
        assert all(torch.equal(value, before_other[name]) for name, value in weights(other).items())
        assert not gradients(model)


def record_gradients(model, optimizers):
    """Keep each network's gradients at the moment of its step."""
    seen = {}
    for turn, wrapper in optimizers.items():
        def finish(apply, turn=turn, stock=wrapper.finish):
            seen[turn] = gradients(getattr(model, turn))
            stock(apply)
        wrapper.finish = finish
    return seen


def test_joint_turns_give_the_gradients_of_separate_ones(make_model, make_images, make_batch, make_optimizers):
    batch = make_batch(make_images())
    joint = make_model(turns='joint')
    seen = record_gradients(joint, optimizers := make_optimizers(joint, lr=1e-5))
    assert joint.turns_of(0) == joint.turns_of(1) == ('autoencoder', 'discriminator')
    joint.train_step([batch], optimizers, joint.turns_of(0))

    alternate = make_model()
    images = alternate.data_preprocessor(batch.images)
    alternate.autoencoder_turn(images, sample_seeds=batch.seeds)[0].backward()
    assert_same(seen['autoencoder'], gradients(alternate.autoencoder), 1e-6)
    # On the reconstruction of the same weights and the same noise.
    alternate.discriminator_turn(images, sample_seeds=batch.seeds)[0].backward()
    assert_same(seen['discriminator'], gradients(alternate.discriminator), 1e-6)


def test_joint_turns_run_the_autoencoder_forward_once(make_model, make_images, make_batch, make_optimizers):
    model = make_model(turns='joint')
    calls = []
    model.autoencoder.encoder.register_forward_hook(lambda *_: calls.append(1))
    update = model.train_step([make_batch(make_images())] * 2, make_optimizers(model, lr=1e-5), model.turns_of(0))
    assert len(calls) == 2  # one a micro-batch
    assert {'pixel', 'discriminator', 'gradient_norm/autoencoder', 'gradient_norm/discriminator'} <= set(update.log)


def test_before_its_start_the_autoencoder_does_not_see_a_discriminator_that_trains(
        make_model, make_images, make_batch, make_optimizers):
    model = make_model(turns='joint')
    model.discriminator_started = False
    before = weights(model.discriminator)
    log = model.train_step([make_batch(make_images())], make_optimizers(model, lr=1e-2), model.turns_of(0)).log
    assert 'adversarial' not in log
    assert 'discriminator' in log
    assert any(not torch.equal(value, before[name]) for name, value in weights(model.discriminator).items())


@pytest.mark.parametrize('discriminator', [
    dict(type='MultiScaleDiscriminator', scales=2, num_layers=1, width=4),
    *(dict(type='PatchDiscriminator', num_layers=2, width=4, norm=norm) for norm in ('batch', 'instance', 'none'))])
@pytest.mark.parametrize('objective', ['hinge', 'vanilla'])
def test_every_discriminator_trains_in_both_turns(make_model, make_images, make_batch, make_optimizers, discriminator,
                                                  objective):
    losses = dict(pixel=PIXEL, adversarial={**ADVERSARIAL, 'objective': objective},
                  matching=dict(type='FeatureMatchingLoss'))
    model = make_model(discriminator=discriminator, losses=losses)
    optimizers = make_optimizers(model, lr=1e-3)
    for iteration in range(2):
        network = getattr(model, model.turns_of(iteration)[0])
        before = weights(network)
        update = model.train_step([make_batch(make_images())], optimizers, model.turns_of(iteration))
        assert not update.skipped
        assert any(not torch.equal(value, before[name]) for name, value in weights(network).items())
        if iteration == 0:
            assert update.log['matching'].item() > 0
            assert 'per_pixel/matching' not in update.log


# numbers

class TestNotFinite:
    def update(self, make_model, make_batch, make_images, make_optimizers, spoil):
        model = make_model()
        optimizers = make_optimizers(model, lr=1e-2)
        spoil(model)
        before = weights(model)
        update = model.train_step([make_batch(make_images())], optimizers, ('autoencoder',))
        return update, before, weights(model)

    def test_the_first_bad_term_is_named_and_nothing_moves(self, make_model, make_batch, make_images, make_optimizers):
        def spoil(model):
            model.losses['kl'].forward = lambda step: step.latent_dist.kl().sum() * float('inf')
        update, before, after = self.update(make_model, make_batch, make_images, make_optimizers, spoil)
        assert update.skipped == 'kl'
        assert all(torch.equal(after[name], before[name]) for name in before)

    def test_a_bad_gradient_behind_good_values(self, make_model, make_batch, make_images, make_optimizers):
        def spoil(model):
            model.autoencoder.encoder.conv_in.weight.register_hook(lambda gradient: gradient * float('nan'))
        update, _, _ = self.update(make_model, make_batch, make_images, make_optimizers, spoil)
        assert update.skipped == 'gradient_norm/autoencoder'


@pytest.mark.parametrize('turn', ['autoencoder', 'discriminator'])
def test_fp16_scales_each_optimizer_and_differs_little(make_model, make_images, make_batch, turn):
    row = dict(optimizer=dict(type='SGD', lr=1e-6))
    changes = []
    for precision in ('fp32', 'fp16'):
        model = make_model(precision=precision)
        optimizers = TurnOptimizers(dict(autoencoder=row, discriminator=row))(model)
        before = weights(getattr(model, turn))
        for _ in range(25):  # the first scale, 65536, overflows: it halves until it fits
            update = model.train_step([make_batch(make_images())], optimizers, (turn,))
            if not update.skipped:
                break
            assert all(torch.equal(value, before[name]) for name, value in weights(getattr(model, turn)).items())
        assert not update.skipped
        changes.append(torch.cat([(value - before[name]).flatten()
                                  for name, value in weights(getattr(model, turn)).items()]))
    assert torch.nn.functional.cosine_similarity(*changes, dim=0) > 0.99
    scalers = {name: wrapper.scaler for name, wrapper in optimizers.items()}
    assert scalers['autoencoder'] is not scalers['discriminator']
    assert optimizers[turn].state_dict()['scaler']['scale'] == scalers[turn].get_scale()
