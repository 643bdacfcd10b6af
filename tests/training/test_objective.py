import copy

import pytest
import torch

from tests.training.helpers import ADVERSARIAL, KL, PIXEL, LearnedScale, assert_same, gradients, weights
from wfvae_toolkit.checkpoints import convert_earlier_state
from wfvae_toolkit.losses import Step
from wfvae_toolkit.training import TurnOptimizers

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
    once = gradients(model.autoencoder)
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
    assert gradients(model.autoencoder).keys() == weights(model.autoencoder).keys()
    assert not gradients(model.discriminator)
    model.zero_grad()
    model.discriminator_turn(make_images())[0].backward()
    assert not gradients(model.autoencoder)
    assert gradients(model.discriminator).keys() == weights(model.discriminator).keys()


def test_an_autoencoder_turn_leaves_nothing_in_the_discriminators(make_model, make_images):
    model = make_model()
    model.autoencoder_turn(make_images())[0].backward()
    fresh = make_model(seed=1)
    fresh.load_state_dict(model.state_dict())
    for either in (model, fresh):
        either.discriminator_turn(make_images(), sample_posterior=False)[0].backward()
    assert_same(gradients(model.discriminator), gradients(fresh.discriminator), 1e-7)


def test_before_its_start_the_discriminator_is_not_used(make_model, make_images):
    model = make_model()
    model.discriminator_started = False
    model.discriminator.register_forward_hook(lambda *args: pytest.fail('used'))
    loss, log = model.autoencoder_turn(make_images())
    assert 'adversarial' not in log
    assert loss.item() == pytest.approx((log['pixel'] + 1e-3 * log['kl'] + 0.1 * log['wavelet']).item(), rel=1e-6)


# totals and the log

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
    assert_same({name: values * value for name, value in small_gradient.items()}, gradient, 1e-5)


def test_log(make_model, make_images):
    loss, log = make_model().autoencoder_turn(make_images())
    assert set(log) == {'pixel', 'kl', 'wavelet', 'adversarial', 'adaptive_weight', 'loss', 'per_pixel/pixel',
                        'per_pixel/kl', 'per_pixel/wavelet', 'kl_channel', 'active_channels'}
    assert not any(value.requires_grad for value in log.values())
    assert log['per_pixel/wavelet'].item() == pytest.approx(log['wavelet'].item() / (3 * 24 * 32))
    assert log['loss'].item() == loss.item()


def test_kl_by_channel_does_not_depend_on_size(make_model, make_images):
    model = make_model()
    _, log = model.autoencoder_turn(make_images(), sample_posterior=False)
    assert log['kl_channel'].shape == (3,)
    assert log['kl_channel'].sum().item() * (24 // 4) * (32 // 4) == pytest.approx(log['kl'].item(), rel=1e-5)
    assert log['active_channels'].item() == (log['kl_channel'] > 0.01).sum().item()


# logvar

def logvar_model(make_model, **settings):
    return make_model(losses=dict(pixel=PIXEL, kl=KL, adversarial=ADVERSARIAL), **settings)


def test_logvar_scales_the_balanced_rows(make_model, make_images):
    images, size = make_images(), 3 * 24 * 32
    plain, scaled = logvar_model(make_model), logvar_model(make_model, logvar=0.7)
    for model in (plain, scaled):
        model.discriminator_started = False
    (_, log), (loss, scaled_log) = (m.autoencoder_turn(images, sample_posterior=False) for m in (plain, scaled))
    expected = log['pixel'] * torch.exp(torch.tensor(-0.7)) + 1e-3 * log['kl'] + 0.7 * size
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert scaled_log['pixel'].item() == log['pixel'].item()


def test_a_learnable_logvar_has_its_gradient_and_its_own_rate(make_model, make_images, make_batch):
    model = logvar_model(make_model, learn_logvar=True, logvar=0.3)
    loss, log = model.autoencoder_turn(make_images(), sample_posterior=False)
    loss.backward()
    expected = 3 * 24 * 32 - log['pixel'] * torch.exp(torch.tensor(-0.3))
    assert model.logvar.grad.item() == pytest.approx(expected.item(), rel=1e-5)
    model.zero_grad()
    row = dict(optimizer=dict(type='AdamW', lr=1e-5, weight_decay=0.1))
    optimizers = TurnOptimizers(dict(autoencoder=row, discriminator=row))(model)
    group = optimizers['autoencoder'].optimizer.param_groups[-1]
    assert (group['lr'], group['weight_decay']) == (1e-2, 0.0)
    model.train_step([make_batch(make_images())], optimizers, ('autoencoder',))
    assert model.logvar.item() == pytest.approx(0.3 - 1e-2 * expected.sign().item(), rel=1e-3)


def test_logvar_moves_only_when_asked(make_model, make_images, make_batch, make_optimizers):
    model = logvar_model(make_model, logvar=0.3)
    model.train_step([make_batch(make_images())], make_optimizers(model, lr=1.0), ('autoencoder',))
    assert model.logvar.item() == pytest.approx(0.3)
    assert 'logvar' not in model.state_dict()
