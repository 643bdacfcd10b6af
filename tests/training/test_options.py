import copy

import pytest
import torch

from wfvae_toolkit.checkpoints import CheckpointError, export_model, read_model, save_training_checkpoint
from wfvae_toolkit.training import TurnOptimizers
from wfvae_toolkit.training.resume import without_parts
from wfvae_toolkit.training.starting import start_from

PIXEL, KL = dict(type='L1Loss'), dict(type='KLLoss', weight=1e-3)
ADVERSARIAL = dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def weights(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def assert_same(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    for name, value in expected.items():
        scale = value.abs().max().item() + 1e-3 * largest  # some are zero in exact arithmetic
        assert (found[name] - value).abs().max().item() <= tolerance * scale, name


def record_gradients(model, optimizers):
    """Keep each network's gradients at the moment of its step."""
    seen = {}
    for turn, wrapper in optimizers.items():
        def finish(apply, turn=turn, stock=wrapper.finish):
            seen[turn] = gradients(getattr(model, turn))
            stock(apply)
        wrapper.finish = finish
    return seen


# joint turns

def test_joint_turns_give_the_gradients_of_separate_ones(make_model, make_images, make_batch, make_optimizers):
    batch = make_batch(make_images())
    joint = make_model(turns='joint')
    seen = record_gradients(joint, optimizers := make_optimizers(joint, lr=1e-5))
    assert joint.turns_of(0) == joint.turns_of(1) == ('autoencoder', 'discriminator')
    joint.train_step([batch], optimizers, joint.turns_of(0))

    alternate = make_model()
    images = alternate.data_preprocessor(batch.images)
    alternate.autoencoder_turn(images, sample_seeds=batch.seeds)[0].backward()
    assert_same(seen['autoencoder'], gradients(alternate.autoencoder))
    # On the reconstruction of the same weights and the same noise.
    alternate.discriminator_turn(images, sample_seeds=batch.seeds)[0].backward()
    assert_same(seen['discriminator'], gradients(alternate.discriminator))


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


# precision

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


# memory and speed

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


# latent channels

def test_kl_by_channel_does_not_depend_on_size(make_model, make_images):
    model = make_model()
    _, log = model.autoencoder_turn(make_images(), sample_posterior=False)
    assert log['kl_channel'].shape == (3,)
    assert log['kl_channel'].sum().item() * (24 // 4) * (32 // 4) == pytest.approx(log['kl'].item(), rel=1e-5)
    assert log['active_channels'].item() == (log['kl_channel'] > 0.01).sum().item()


# starting and resuming

@pytest.fixture
def checkpoint(make_model, tmp_path):
    model = make_model(seed=3)
    ema = {name: value + 1 for name, value in model.autoencoder.state_dict().items()}
    content = {'meta': {'iteration': 7}, 'state_dict': model.state_dict(), 'ema_state_dict': ema,
               'optimizers': {'autoencoder': {'a': 1}, 'discriminator': {'d': 1}}}
    save_training_checkpoint(copy.deepcopy(content), tmp_path / 'iter_7.pth', model.autoencoder_config)
    return tmp_path, content


@pytest.mark.parametrize('chosen', ['ema', 'raw'])
def test_start_from_fills_everything(make_model, checkpoint, chosen):
    folder, content = checkpoint
    model = make_model(seed=4)
    assert start_from(model, folder, weights=chosen) == []
    for name, value in model.state_dict().items():
        shift = 1 if chosen == 'ema' and name.startswith('autoencoder.') else 0
        assert torch.equal(value, content['state_dict'][name] + shift), name


def test_start_from_is_strict_but_for_what_is_listed(make_model, checkpoint):
    folder, content = checkpoint
    other = make_model(seed=4, discriminator=dict(type='PatchDiscriminator', num_layers=1, width=4))
    with pytest.raises(CheckpointError, match=r'does not fit: discriminator.*allow_missing'):
        start_from(other, folder)
    fresh = start_from(other, folder, allow_missing=['discriminator.*'])
    assert 'discriminator.convs.0.weight_orig' in fresh
    assert torch.equal(other.autoencoder.last_layer, content['ema_state_dict']['decoder.conv_out.weight'])
    with pytest.raises(ValueError, match="weights='best': 'ema' or 'raw'"):
        start_from(other, folder, weights='best')


HIDDEN = {
    'wavelet': dict(wavelet=dict(type='DiscreteWavelet', name='db2')),
    'norm': dict(norm=dict(type='GroupNorm', groups=4)),
    'eps': dict(norm=dict(type='LayerNorm2d', eps=1e-5)), 'activation': dict(output_activation=True)}


@pytest.mark.parametrize('case', HIDDEN)
def test_start_from_refuses_what_shows_in_no_weight(make_model, checkpoint, case):
    folder, _ = checkpoint
    setting, = HIDDEN[case]
    before = torch.random.get_rng_state()
    other = make_model(seed=4, autoencoder=HIDDEN[case])
    state = torch.random.get_rng_state()
    with pytest.raises(CheckpointError, match=rf"weights fit, but .* model.autoencoder.{setting} was .* and is .*"
                                              rf"allow_missing=\['autoencoder.{setting}'\]"):
        start_from(other, folder)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(before, state)
    assert start_from(other, folder, allow_missing=[f'autoencoder.{setting}']) == []


def test_start_from_compares_each_setting_beside_those_that_are_meant(make_model, checkpoint):
    folder, _ = checkpoint
    changed = make_model(seed=4, autoencoder=dict(decoder_layers=3, **HIDDEN['wavelet']))
    with pytest.raises(CheckpointError, match='model.autoencoder.wavelet was .*Haar') as error:
        start_from(changed, folder, allow_missing=['autoencoder.decoder.*'])
    assert 'decoder_layers' not in str(error.value)
    fresh = start_from(changed, folder, allow_missing=['autoencoder.decoder.*', 'autoencoder.wavelet'])
    assert fresh
    assert all(name.startswith('autoencoder.decoder.') for name in fresh)


@pytest.mark.parametrize('settings', [dict(dropout=0.2), dict(checkpoint_activations=True), dict(encoder_layers=[2]),
                                      dict(norm=dict(type='LayerNorm2d'))])
def test_start_from_takes_what_computes_the_same(make_model, checkpoint, settings):
    folder, _ = checkpoint
    assert start_from(make_model(seed=4, autoencoder=settings), folder) == []


def test_start_from_another_form_brings_the_autoencoder_alone(make_model, checkpoint, tmp_path):
    folder, content = checkpoint
    path, = export_model(read_model(folder), tmp_path / 'a.pth', 'native')
    model = make_model(seed=4)
    with pytest.raises(CheckpointError, match=r"say load_from.allow_missing=\['discriminator\*'\]"):
        start_from(model, path)
    fresh = start_from(model, path, allow_missing=['discriminator*'])
    assert fresh
    assert all(name.startswith('discriminator.') for name in fresh)
    for name, value in model.autoencoder.state_dict().items():
        assert torch.equal(value, content['ema_state_dict'][name])


def test_resuming_without_the_discriminator_or_the_optimizers(make_model, checkpoint):
    _, content = checkpoint
    model = make_model(seed=4)
    kept = without_parts(content, ['discriminator'], model)
    assert set(kept['optimizers']) == {'autoencoder'}
    assert torch.equal(kept['state_dict']['discriminator.score.bias'], model.discriminator.score.bias)
    assert torch.equal(kept['state_dict']['autoencoder.decoder.conv_out.bias'],
                       content['state_dict']['autoencoder.decoder.conv_out.bias'])
    assert without_parts(content, ['optimizers'], model)['optimizers'] == {}
    assert content['optimizers'].keys() == {'autoencoder', 'discriminator'}
    with pytest.raises(ValueError, match="resume_drop: 'ema' is none of discriminator, optimizers, early_stop"):
        without_parts(content, ['ema'], model)


# distillation

def test_distillation_pulls_latents_towards_the_teachers(make_model, make_images, make_batch, make_optimizers,
                                                          checkpoint):
    folder, _ = checkpoint
    model = make_model(seed=5, losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder), weights='raw')))
    assert not any('teacher' in name for name in model.state_dict())
    optimizers = TurnOptimizers(dict(autoencoder=dict(optimizer=dict(type='AdamW', lr=3e-3))))(model)
    distances = [model.train_step([make_batch(make_images())], optimizers, ('autoencoder',)).log['distil'].item()
                 for _ in range(30)]
    assert distances[-1] < 0.5 * distances[0]
    same = make_model(seed=3, losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder), weights='raw')))
    assert same.autoencoder_turn(make_images(), sample_posterior=False)[1]['distil'].item() == 0


def test_distillation_needs_latents_of_one_shape(make_model, make_images, checkpoint):
    folder, _ = checkpoint
    model = make_model(autoencoder=None, losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder))))
    model.autoencoder = make_model().autoencoder
    teacher = model.losses['distil'].teacher.network
    teacher.encode = lambda x, stock=teacher.encode: stock(x[..., :16])
    with pytest.raises(ValueError, match="the teacher's latents are .*, the student's"):
        model.autoencoder_turn(make_images())


def test_distillation_compares_teacher_and_student(make_model, checkpoint, monkeypatch):
    said = []
    monkeypatch.setattr('wfvae_toolkit.losses.distillation.print_log', lambda text, *_: said.append(text))
    folder, _ = checkpoint
    losses = dict(distil=dict(type='DistillationLoss', teacher=str(folder)))
    for settings, message in ((dict(latent_channels=4), 'latent_channels=3, the student 4'),
                              (dict(widths=(8, 12, 16)), 'downsample_factor=4, the student 8')):
        with pytest.raises(ValueError, match=f'^losses.distil: the teacher .*iter_7.pth .* has {message}'):
            make_model(autoencoder=settings, losses=losses)
    make_model(losses=losses)
    assert said == []
    make_model(autoencoder=HIDDEN['wavelet'], losses=losses)
    assert "and student differ in wavelet {'type': 'Haar'}, {'type': 'DiscreteWavelet', 'name': 'db2'" in said[0]


def test_a_teacher_is_known_by_its_weights(make_model, checkpoint):
    folder, _ = checkpoint
    sources = [make_model(losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder), weights=weights))
                          ).losses['distil'].source for weights in ('ema', 'raw', 'ema')]
    assert sources[0] == sources[2] != sources[1]
    assert sources[0].startswith(f'{folder}/iter_7.pth (ema, ')


# discriminators and their losses

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


def test_feature_matching_alone_has_no_discriminator_to_match(make_model):
    with pytest.raises(ValueError, match='losses.matching needs a discriminator that trains'):
        make_model(losses=dict(pixel=PIXEL, matching=dict(type='FeatureMatchingLoss')))
