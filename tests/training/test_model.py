import copy
import re

import pytest
import torch
from torch import nn

from wfvae_toolkit.checkpoints import convert_earlier_state
from wfvae_toolkit.losses import Loss, Step

PIXEL, KL = dict(type='L1Loss'), dict(type='KLLoss', weight=1e-3)
ADVERSARIAL = dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))


class Probe(Loss):
    """Keeps the latents that the decoder saw; adds nothing."""

    def forward(self, step):
        self.noise = (step.latents - step.latent_dist.mean).detach() / step.latent_dist.std.detach()
        return step.latents.sum() * 0.0


class LearnedScale(Loss):
    """The pixel term under a learnable log-variance, as `logvar` of the earlier system."""

    def __init__(self, weight=1.0):
        super().__init__(weight)
        self.logvar = nn.Parameter(torch.tensor(0.3))

    def forward(self, step):
        error = (step.target - step.reconstruction).abs().flatten(1).sum(1).mean()
        return error / self.logvar.exp() + self.logvar * step.values_per_image


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters()}


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_same(ours, expected, tolerance):
    """Every tensor within ``tolerance`` of the largest norm among them."""
    largest = max(value.norm().item() for value in expected.values())
    assert ours.keys() == expected.keys()
    assert largest > 0
    for name, value in expected.items():
        assert (ours[name] - value).norm().item() <= tolerance * largest, name


# reference numbers

def test_terms_equal_the_earlier_implementation(reference):
    model = reference.training_model()
    images, expected = reference.io['input'], reference.numbers['scalars']
    loss, log = model.autoencoder_turn(images, sample_posterior=False)
    measured = {'total_loss': loss, 'rec_loss': log['pixel'], 'kl_loss': log['kl'], 'wl_loss': log['wavelet'],
                'd_weight': log['adaptive_weight'], 'g_loss': log['adversarial']}
    loss, log = model.discriminator_turn(images, sample_posterior=False)
    measured |= {'d_loss': loss, 'd_logits_real': log['scores/real'], 'd_logits_fake': log['scores/fake']}
    for name, value in measured.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-4), name
    assert log['discriminator'].item() == loss.item()


def test_gradient_norms_equal_the_earlier_implementation(reference):
    model = reference.training_model()
    model.autoencoder_turn(reference.io['input'], sample_posterior=False)[0].backward()
    expected = reference.numbers['grad_norms']
    # The same tensors under the names that they are converted to.
    names = dict(zip(expected, convert_earlier_state(expected, 'autoencoder'), strict=True))
    measured = {name: gradient.norm().item() for name, gradient in gradients(model.autoencoder).items()}
    assert measured.keys() == set(names.values())
    largest = max(expected.values())
    for name, norm in expected.items():
        assert measured[names[name]] == pytest.approx(norm, rel=1e-3, abs=1e-6 * largest), name


# one backward pass

def plain_turn(model, images):
    """The objective as written down: a sum of terms and one ``backward`` through everything."""
    encoded = model.autoencoder.encode(images)
    latents = encoded.latent_dist.mode()
    decoded = model.autoencoder.decode(latents)
    step = Step(images, decoded.sample, encoded.latent_dist, latents, encoded.bands, decoded.bands,
                model.discriminator)
    values = {name: loss(step) for name, loss in model.losses.items()}
    factors = {name: loss.weight for name, loss in model.losses.items()}
    if model.adversarial:
        row, last = model.losses[model.adversarial], model.autoencoder.decoder.conv_out.weight
        nll = sum(factors[name] * values[name] for name in row.balance if name in values)
        norms = [torch.autograd.grad(value, last, retain_graph=True)[0].norm()
                 for value in (nll, values[model.adversarial])]
        factors[model.adversarial] = row.weight * (norms[0] / (norms[1] + 1e-6)).clamp(0, 1e6).detach()
    total = sum(factors[name] * values[name] for name in values)
    total.backward()
    return total, values, factors


@pytest.mark.parametrize('rows', [
    {},
    dict(kl=None, wavelet=None),
    dict(pixel=dict(type='L2Loss', weight=0.7), perceptual=dict(type='STLPIPSLoss', weight=0.3),
         adversarial=dict(type='AdversarialLoss', balance=('pixel', 'perceptual'))),
    dict(pixel=dict(type=LearnedScale)),
    dict(pixel=dict(type=LearnedScale, weight=0.5), adversarial=None),
    dict(perceptual=dict(type='STLPIPSLoss'), adversarial=None, pixel=None),
], ids=['all', 'few', 'perceptual', 'learnable', 'no adversary', 'perceptual alone'])
def test_equals_the_plain_formulation(make_model, make_images, rows):
    losses = dict(pixel=PIXEL, kl=KL, wavelet=dict(type='WaveletFlowLoss', weight=0.1), adversarial=ADVERSARIAL)
    model = make_model(losses={**losses, **rows})
    plain = copy.deepcopy(model)
    images = make_images()
    loss, log = model.autoencoder_turn(images, sample_posterior=False)
    loss.backward()
    total, values, factors = plain_turn(plain, images)
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)
    for name, value in values.items():
        assert log[name].item() == pytest.approx(value.item(), rel=1e-5), name
    if plain.adversarial:
        assert log['adaptive_weight'].item() == pytest.approx(factors['adversarial'].item(), rel=1e-4)
    assert_same(gradients(model.autoencoder), gradients(plain.autoencoder), 1e-5)
    if list(plain.losses.parameters()):
        assert_same(gradients(model.losses), gradients(plain.losses), 1e-5)


def test_equals_the_plain_formulation_per_parameter_in_float64(make_model, make_images):
    model = make_model().double()
    plain = copy.deepcopy(model)
    model.autoencoder_turn(make_images().double(), sample_posterior=False)[0].backward()
    plain_turn(plain, make_images().double())
    # The adaptive weight is float32; keys' biases have no gradient but rounding, as softmax ignores them.
    for name, expected in gradients(plain.autoencoder).items():
        assert (gradients(model.autoencoder)[name] - expected).norm() <= 1e-6 * expected.norm() + 1e-9, name


def test_gradient_scales_with_what_backward_is_given(make_model, make_images):
    model = make_model()
    loss = model.autoencoder_turn(make_images(), sample_posterior=False)[0]
    loss.backward(retain_graph=True)
    once = {name: gradient.clone() for name, gradient in gradients(model.autoencoder).items()}
    (loss / 4).backward()
    assert_same(gradients(model.autoencoder), {name: 1.25 * gradient for name, gradient in once.items()}, 1e-6)


def test_networks_behind_the_losses_run_backward_once(make_model, make_images):
    model = make_model(losses=dict(pixel=PIXEL, perceptual=dict(type='STLPIPSLoss'),
                                   adversarial=dict(type='AdversarialLoss', balance=('pixel', 'perceptual'))))
    backwards = []

    def count(name):
        def hook(module, inputs, output):
            if output.requires_grad:
                output.register_hook(lambda gradient: backwards.append(name))
        return hook

    # The first layer's output: every backward pass through the network ends there.
    model.losses['perceptual'].network.network.stages[0].register_forward_hook(count('perceptual'))
    model.discriminator.convs[0].register_forward_hook(count('discriminator'))
    model.autoencoder.encoder.conv_in.register_forward_hook(count('encoder'))
    model.autoencoder_turn(make_images())[0].backward()
    assert sorted(backwards) == ['discriminator', 'encoder', 'perceptual']


# isolation

def test_a_turn_gives_gradients_to_its_own_network_alone(make_model, make_images):
    model = make_model()
    model.autoencoder_turn(make_images())[0].backward()
    assert all(gradient is not None for gradient in gradients(model.autoencoder).values())
    assert all(gradient is None for gradient in gradients(model.discriminator).values())
    model.zero_grad()
    model.discriminator_turn(make_images())[0].backward()
    assert all(gradient is None for gradient in gradients(model.autoencoder).values())
    assert all(gradient is not None for gradient in gradients(model.discriminator).values())


def test_an_autoencoder_turn_leaves_nothing_in_the_discriminators(make_model, make_images):
    model = make_model()
    model.autoencoder_turn(make_images())[0].backward()
    fresh = make_model(seed=1)
    fresh.load_state_dict(model.state_dict())
    for either in (model, fresh):
        either.discriminator_turn(make_images(), sample_posterior=False)[0].backward()
    assert_same(gradients(model.discriminator), gradients(fresh.discriminator), 1e-7)


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
        assert all(gradient is None for gradient in gradients(model).values())


def test_the_discriminators_turn_draws_no_graph_of_the_autoencoder(make_model, make_images):
    model = make_model()
    seen = []
    model.autoencoder.decoder.conv_out.register_forward_hook(lambda *args: seen.append(args[2].requires_grad))
    model.discriminator_turn(make_images())
    assert seen == [False]


# settings

def test_normalize_divides_the_total_only(make_model, make_images):
    values = 3 * 24 * 32
    turns = []
    for normalize in (False, True):
        model = make_model(normalize=normalize)
        loss, log = model.autoencoder_turn(make_images(), sample_posterior=False)
        loss.backward()
        turns.append((loss.item(), log, gradients(model.autoencoder)))
    (loss, log, gradient), (small_loss, small_log, small_gradient) = turns
    assert small_loss == pytest.approx(loss / values, rel=1e-6)
    assert small_log['adaptive_weight'].item() == log['adaptive_weight'].item()
    for name in ('pixel', 'kl', 'wavelet', 'adversarial'):
        assert small_log[name].item() == log[name].item()
    assert_same({name: values * value for name, value in small_gradient.items()}, gradient, 1e-6)


def test_log(make_model, make_images):
    loss, log = make_model().autoencoder_turn(make_images())
    assert set(log) == {'pixel', 'kl', 'wavelet', 'adversarial', 'adaptive_weight', 'loss', 'per_pixel/pixel',
                        'per_pixel/kl', 'per_pixel/wavelet', 'kl_channel', 'active_channels'}
    assert not any(value.requires_grad for value in log.values())
    assert log['per_pixel/wavelet'].item() == pytest.approx(log['wavelet'].item() / (3 * 24 * 32))
    assert log['loss'].item() == loss.item()


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
    assert_same(bf16_gradient, gradient, 0.1)


def test_balance_empty_is_a_constant_weight(make_model, make_images):
    model = make_model(losses=dict(pixel=PIXEL, adversarial={**ADVERSARIAL, 'balance': (), 'weight': 0.25}))
    loss, log = model.autoencoder_turn(make_images())
    assert log['adaptive_weight'].item() == 0.25
    assert loss.item() == pytest.approx((log['pixel'] + 0.25 * log['adversarial']).item(), rel=1e-6)


def test_balance_passes_over_rows_that_are_none(make_model, make_images):
    balanced = {**ADVERSARIAL, 'balance': ('pixel', 'perceptual')}
    logs = [make_model(losses=dict(pixel=PIXEL, perceptual=None, adversarial=row)).autoencoder_turn(
        make_images(), sample_posterior=False)[1] for row in (balanced, ADVERSARIAL)]
    assert logs[0]['adaptive_weight'].item() == logs[1]['adaptive_weight'].item()


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(precision='fp8'), "precision='fp8': one of fp32, bf16"),
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


# turns

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


def test_before_its_start_the_discriminator_is_not_used(make_model, make_images):
    model = make_model()
    model.discriminator_started = False
    model.discriminator.register_forward_hook(lambda *args: pytest.fail('used'))
    loss, log = model.autoencoder_turn(make_images())
    assert 'adversarial' not in log
    assert loss.item() == pytest.approx((log['pixel'] + 1e-3 * log['kl'] + 0.1 * log['wavelet']).item(), rel=1e-6)


def test_the_discriminator_scores_the_posteriors_sample(make_model, make_images):
    model = make_model()
    seen = []
    model.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.discriminator_turn(make_images(), sample_seeds=[1, 2])
    model.autoencoder_turn(make_images(), sample_seeds=[1, 2])
    real, fake, reconstruction = seen
    assert torch.equal(real, make_images())
    torch.testing.assert_close(fake, reconstruction)


# randomness

def test_noise_belongs_to_the_sample(make_model, make_images):
    model = make_model(losses=dict(pixel=PIXEL, probe=dict(type=Probe)))
    probe = model.losses['probe']
    images = make_images(4)
    model.autoencoder_turn(images, sample_seeds=[5, 6, 7, 8])
    together = probe.noise
    assert len({row.sum().item() for row in together}) == 4
    for order in ([3], [2, 0], [1, 3, 2]):
        torch.manual_seed(len(order))  # torch's generator has no part in it
        model.autoencoder_turn(images[order], sample_seeds=[5 + i for i in order])
        torch.testing.assert_close(probe.noise, together[order], rtol=0, atol=1e-5)
    assert together.std().item() == pytest.approx(1, abs=0.1)


def test_without_seeds_noise_comes_from_torchs_generator(make_model, make_images):
    model = make_model(losses=dict(probe=dict(type=Probe)))
    noises = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model.autoencoder_turn(make_images())
        noises.append(model.losses['probe'].noise)
    assert torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])


def test_the_mean_has_no_noise(make_model, make_images):
    model = make_model(losses=dict(probe=dict(type=Probe)))
    model.autoencoder_turn(make_images(), sample_posterior=False)
    assert not model.losses['probe'].noise.any()


# updates

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
        log = model.update(('autoencoder',), batches, make_optimizers(model, lr=1e-5)).log
        results.append(({name: value - before[name] for name, value in weights(model).items()}, log))
    (change, log), (accumulated, accumulated_log) = results
    assert_same(accumulated, change, 1e-4)
    assert accumulated_log['masked'].item() == pytest.approx(log['masked'].item(), rel=1e-5)


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
    assert_same(change, {name: 1e-3 * value for name, value in gradients(expected.autoencoder).items()}, 1e-5)


def test_clipping_and_its_log(make_model, make_images, make_batch, make_optimizers):
    model = make_model()
    before = weights(model.autoencoder)
    log = model.train_step([make_batch(make_images())],
                           make_optimizers(model, lr=1.0, clip_grad=dict(max_norm=0.5))).log
    change = torch.cat([(value - before[name]).flatten() for name, value in weights(model.autoencoder).items()])
    assert log['gradient_norm/autoencoder'].item() > 10
    assert change.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_state_dict_holds_networks_only(make_model):
    model = make_model(losses=dict(pixel=PIXEL, perceptual=dict(type='STLPIPSLoss'), adversarial=ADVERSARIAL))
    roots = {re.match(r'\w+', key)[0] for key in model.state_dict()}
    assert roots == {'autoencoder', 'discriminator'}


def test_forward_reconstructs_through_the_mean(make_model, make_images):
    model = make_model()
    assert torch.equal(model(make_images()), model.autoencoder(make_images()))


@pytest.mark.parametrize(('balance', 'message'), [
    (('adversarial',), 'rows: kl, perceptual, pixel, wavelet'),
    (('nonsense',), 'rows: kl, perceptual, pixel, wavelet')])
def test_balance_names_other_rows_only(make_model, balance, message):
    losses = dict(pixel=dict(type='L1Loss'), perceptual=None, kl=dict(type='KLLoss'), wavelet=None,
                  adversarial=dict(type='AdversarialLoss', balance=balance))
    with pytest.raises(ValueError, match=message):
        make_model(losses=losses)


def test_balance_against_what_does_not_touch_the_image(make_model, make_images):
    model = make_model(losses=dict(pixel=dict(type='L1Loss'), kl=dict(type='KLLoss'),
                                   adversarial=dict(type='AdversarialLoss', balance=('kl',))))
    with pytest.raises(ValueError, match='none of the rows kl depends on the reconstruction'):
        model.autoencoder_turn(make_images(2))
