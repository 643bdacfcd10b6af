import pytest
import torch

from tests.training.helpers import ADVERSARIAL, PIXEL
from wfvae_toolkit.losses import Loss
from wfvae_toolkit.losses.base import sum_per_image
from wfvae_toolkit.utils.errors import SettingError


class Alignment(Loss):
    """Like the loss of VA-VAE: it acts on the latents only, not on the picture."""

    def forward(self, step):
        return sum_per_image((step.latent_dist.mode() - 0.5).square())


def losses(**keys):
    return dict(pixel=PIXEL, wavelet=dict(type='WaveletFlowLoss', weight=0.1),
                vf=dict(type=Alignment, weight=0.3, **keys))


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_a_row_is_weighted_by_gradient_norms_at_the_encoder(make_model, make_images, precision):
    model = make_model(losses=losses(balance=['pixel', 'wavelet'], balance_at='encoder.conv_out'), discriminator=None,
                       precision=precision)
    log = model.autoencoder_turn(make_images(), sample_seeds=[1, 2])[1]

    outputs = model.reconstruct(make_images(), [1, 2])
    reconstruction, mean, logvar, *bands = [outputs.tensors[i] for i in (0, 1, 2, *range(4, len(outputs.tensors)))]
    step = outputs.step
    step.reconstruction, step.encoder_bands, step.decoder_bands = (
        reconstruction, tuple(bands[:len(step.encoder_bands)]), tuple(bands[len(step.encoder_bands):]))
    step.latent_dist = type(step.latent_dist)(mean, logvar)
    layer = model.autoencoder.encoder.conv_out.weight
    norms = []
    for value in (model.losses['pixel'](step) + 0.1 * model.losses['wavelet'](step), model.losses['vf'](step)):
        norms.append(torch.autograd.grad(value * 2.0**-6, layer, retain_graph=True)[0].norm() * 2.0**6)
    # The networks' arithmetic has 8 or 11 bits of mantissa in bf16 and fp16; a norm over hundreds of weights.
    tolerance = {'fp32': 1e-4, 'bf16': 2e-2, 'fp16': 2e-3}[precision]
    assert log['adaptive_weight/vf'].item() == pytest.approx(0.3 * (norms[0] / norms[1]).item(), rel=tolerance)


def test_the_factor_enters_the_loss(make_model, make_images):
    model = make_model(losses=losses(balance=['pixel'], balance_at='encoder.conv_out'), discriminator=None)
    log = model.autoencoder_turn(make_images(), sample_seeds=[1, 2])[1]
    expected = log['pixel'] + 0.1 * log['wavelet'] + log['adaptive_weight/vf'] * log['vf']
    assert log['loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_factor_ends_at_max_ratio(make_model, make_images):
    model = make_model(losses=losses(balance=['pixel'], balance_at='encoder.conv_out', max_ratio=0.01),
                       discriminator=None)
    assert model.autoencoder_turn(make_images())[1]['adaptive_weight/vf'].item() == pytest.approx(0.3 * 0.01)


@pytest.mark.parametrize(('keys', 'message'), [
    (dict(balance=['pixle']), 'balance names pixle; rows: pixel, wavelet'),
    (dict(balance=['vf']), 'balance names vf'),
    (dict(balance=['pixel'], balance_at='encoder.conv_ou'), r"'encoder\.conv_ou': .*no layer .* encoder\.conv_out")])
def test_a_balance_that_names_nothing_is_refused(make_model, keys, message):
    with pytest.raises(SettingError, match=message):
        make_model(losses=losses(**keys), discriminator=None)


def test_a_layer_that_does_not_train_is_refused(make_model):
    with pytest.raises(SettingError, match=r'freeze covers encoder\.conv_out, at which losses\.vf is balanced'):
        make_model(losses=losses(balance=['pixel'], balance_at='encoder.conv_out'), discriminator=None,
                   freeze=['autoencoder.encoder.*'])


def test_a_row_that_does_not_reach_the_layer_is_refused(make_model, make_images):
    model = make_model(losses=losses(balance=['pixel']), discriminator=None)
    with pytest.raises(SettingError, match=r'losses\.vf.*vf does not depend on the reconstruction'):
        model.autoencoder_turn(make_images())


def test_a_key_of_no_meaning_is_refused(make_model):
    with pytest.raises(TypeError, match="no setting is called 'balanced'"):
        make_model(losses=losses(balanced=['pixel']), discriminator=None)


# the adversarial row

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


def test_fp16_balances_gradients_that_overflow_it(make_model, make_images):
    """L1 on a picture of 1344 px has a gradient of 5e6 at the last conv; here few pixels weigh as much."""
    adversarial = dict(type='AdversarialLoss', weight=0.5, balance=('pixel',), max_ratio=1e12)
    weights = []
    for precision in ('fp32', 'fp16'):
        model = make_model(precision=precision, losses=dict(pixel=dict(type='L1Loss', weight=1e4),
                                                            adversarial=adversarial))
        weights.append(model.autoencoder_turn(make_images(), sample_seeds=[0, 1])[1]['adaptive_weight'].item())
    assert weights[0] > 65504
    assert weights[1] == pytest.approx(weights[0], rel=0.01)
