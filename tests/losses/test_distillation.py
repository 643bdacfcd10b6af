import pytest

from wfvae_toolkit.training import TurnOptimizers


def test_distillation_pulls_latents_towards_the_teachers(make_model, make_images, make_batch, make_optimizers,
                                                          training_checkpoint):
    folder, _ = training_checkpoint
    model = make_model(seed=5, losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder), weights='raw')))
    assert not any('teacher' in name for name in model.state_dict())
    optimizers = TurnOptimizers(dict(autoencoder=dict(optimizer=dict(type='AdamW', lr=3e-3))))(model)
    distances = [model.train_step([make_batch(make_images())], optimizers, ('autoencoder',)).log['distil'].item()
                 for _ in range(30)]
    assert distances[-1] < 0.5 * distances[0]
    same = make_model(seed=3, losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder), weights='raw')))
    assert same.autoencoder_turn(make_images(), sample_posterior=False)[1]['distil'].item() == 0


def test_distillation_needs_latents_of_one_shape(make_model, make_images, training_checkpoint):
    folder, _ = training_checkpoint
    model = make_model(autoencoder=None, losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder))))
    model.autoencoder = make_model().autoencoder
    teacher = model.losses['distil'].teacher.network
    teacher.encode = lambda x, stock=teacher.encode: stock(x[..., :16])
    with pytest.raises(ValueError, match="the teacher's latents are .*, the student's"):
        model.autoencoder_turn(make_images())


def test_distillation_compares_teacher_and_student(make_model, training_checkpoint, monkeypatch):
    said = []
    monkeypatch.setattr('wfvae_toolkit.losses.distillation.print_log', lambda text, *_: said.append(text))
    folder, _ = training_checkpoint
    losses = dict(distil=dict(type='DistillationLoss', teacher=str(folder)))
    for settings, message in ((dict(latent_channels=4), 'latent_channels=3, the student 4'),
                              (dict(widths=(8, 12, 16)), 'downsample_factor=4, the student 8')):
        with pytest.raises(ValueError, match=f'^losses.distil: the teacher .*iter_7.pth .* has {message}'):
            make_model(autoencoder=settings, losses=losses)
    make_model(losses=losses)
    assert said == []
    make_model(autoencoder=dict(wavelet=dict(type='DiscreteWavelet', name='db2')), losses=losses)
    assert "and student differ in wavelet {'type': 'Haar'}, {'type': 'DiscreteWavelet', 'name': 'db2'" in said[0]


def test_a_teacher_is_known_by_its_weights(make_model, training_checkpoint):
    folder, _ = training_checkpoint
    sources = [make_model(losses=dict(distil=dict(type='DistillationLoss', teacher=str(folder), weights=weights))
                          ).losses['distil'].source for weights in ('ema', 'raw', 'ema')]
    assert sources[0] == sources[2] != sources[1]
    assert sources[0].startswith(f'{folder}/iter_7.pth (ema, ')
