"""Rows of the discriminator and what it sees, inside the training step; two ranks: test_distributed.py."""

import shutil

import pytest
import torch

from wfvae_toolkit.losses import DiscriminatorLoss
from wfvae_toolkit.utils.errors import SettingError

PIXEL, ADVERSARIAL = dict(type='L1Loss'), dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))
ROWS = dict(r1=dict(type='R1Penalty', weight=0.5), r2=dict(type='R2Penalty', weight=0.5),
            lecam=dict(type='LeCamLoss', weight=0.1))


class Seen(DiscriminatorLoss):
    """A row that stores the step."""

    def forward(self, step):
        self.step = step
        return step.features('fake')[0].mean()


def test_the_rows_add_up(make_model, make_images):
    model = make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, **ROWS))
    model.losses['lecam'].after_update({'scores/real': torch.tensor(0.3), 'scores/fake': torch.tensor(-0.2)})
    loss, log = model.discriminator_turn(make_images(), sample_seeds=[1, 2])
    expected = log['discriminator'] + 0.5 * log['r1'] + 0.5 * log['r2'] + 0.1 * log['lecam']
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert min(log[name].item() for name in ROWS) > 0


def test_a_row_sees_images_scores_features_and_the_network(make_model, make_images):
    model = make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, seen=dict(type=Seen)))
    images = make_images()
    model.discriminator_turn(images, sample_seeds=[4, 5])
    step = model.losses['seen'].step
    assert torch.equal(step.real, images)
    assert torch.equal(step.fake, model.reconstruct_without_gradient(images, [4, 5]))
    assert step.real_scores.shape == step.fake_scores.shape
    assert (step.discriminator, step.seeds) == (model.discriminator, (4, 5))


def test_rows_of_the_discriminator_leave_the_autoencoder_s_turn_alone(make_model, make_images):
    plain, more = (make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, **rows)) for rows in ({}, ROWS))
    logs = [model.autoencoder_turn(make_images(), sample_seeds=[1, 2])[1] for model in (plain, more)]
    assert logs[0].keys() == logs[1].keys()
    assert all(torch.equal(value, logs[1][name]) for name, value in logs[0].items())


def test_accumulation_equals_one_batch(make_model, make_images, make_batch, make_optimizers):
    """Gradients, and the averages of LeCam, which count an update once."""
    batches = [[make_batch(make_images(4))], [make_batch(make_images(4)[:2]), make_batch(make_images(4)[2:], 2)]]
    models = [make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, **ROWS)) for _ in batches]
    for model, micro_batches in zip(models, batches, strict=True):
        model.discriminator.eval()  # otherwise two micro-batches are two power iterations
        optimizers = make_optimizers(model, lr=1e-2)
        for _ in range(2):
            log = model.train_step(micro_batches, optimizers, ('discriminator',)).log
    assert log['lecam'] > 0
    states = [model.state_dict() for model in models]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_penalties_are_computed_in_float32(make_model, make_images, precision):
    """Against float32 on the same images; squares of gradients of 1e-4 would vanish in float16."""
    logs = []
    for dtype in ('fp32', precision):
        model = make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, **ROWS), precision=dtype).eval()
        logs.append(model.judge(make_images(2, 64, 64), make_images(2, 64, 64, seed=1), [1, 2]))
    expected, found = ([step.score_gradient(kind) for kind in ('real', 'fake')] for step in logs)
    assert found[0].dtype == torch.float32
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)


def test_an_update_that_is_skipped_leaves_the_averages(make_model, make_images, make_batch, make_optimizers):
    model = make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, lecam=ROWS['lecam']))
    optimizers = make_optimizers(model)
    batch = [make_batch(make_images())]
    model.train_step(batch, optimizers, ('discriminator',))
    before = model.losses['lecam'].averages.clone()
    with torch.no_grad():
        model.discriminator.convs[0].weight_orig[0, 0, 0, 0] = torch.inf
    assert model.train_step(batch, optimizers, ('discriminator',)).skipped
    assert torch.equal(model.losses['lecam'].averages, before)


def test_a_run_resumes_with_the_averages_of_lecam(train, photos, tmp_path):
    options = {'train_dataloader.dataset.data_root': photos / 'train',
               'val_dataloader.dataset.data_root': photos / 'val', 'default_hooks.discriminator.start_iter': 0,
               **{f'model.losses.{name}': row for name, row in ROWS.items()},
               'model.discriminator_augmentation': dict(type='DiffAugment'), 'default_hooks.checkpoint.interval': 3}
    train('tiny', tmp_path / 'whole', **options)
    (tmp_path / 'parts').mkdir()
    shutil.copy(tmp_path / 'whole/iter_3.pth', tmp_path / 'parts')
    train('tiny', tmp_path / 'parts', '--resume', **options)
    whole, parts = (torch.load(tmp_path / run / 'iter_6.pth', weights_only=True)['state_dict']
                    for run in ('whole', 'parts'))
    assert whole['losses.lecam.weight_of_averages'] > 0
    assert [name for name, value in whole.items() if not torch.equal(value, parts[name])] == []


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(losses=dict(pixel=PIXEL, r1=ROWS['r1'])), r'losses\.r1 needs a discriminator'),
    (dict(discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8, norm='batch'),
          losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, r1=ROWS['r1'])), r'losses\.r1: R1Penalty .* batch norm'),
    (dict(losses=dict(pixel=PIXEL), discriminator_augmentation=dict(type='DiffAugment')), 'add an AdversarialLoss')])
def test_what_has_no_meaning_is_refused(make_model, settings, message):
    with pytest.raises(SettingError, match=message):
        make_model(**settings)


class Masked(DiscriminatorLoss):
    """A row that asks for a mask."""

    def forward(self, step):
        return step.extra('mask').float().mean() * step.features('fake')[0].mean()


@pytest.mark.parametrize('policy', ['translation', 'color'])
def test_a_mask_that_does_not_fit_the_augmented_images_is_refused(make_model, make_images, policy):
    model = make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, masked=dict(type=Masked)),
                       discriminator_augmentation=dict(type='DiffAugment', policy=[policy]))
    images = make_images()
    extras = dict(mask=torch.ones_like(images[:, :1], dtype=torch.uint8), label=torch.zeros(len(images)))
    if policy == 'color':
        assert model.discriminator_turn(images, extras=extras)[1]['masked'].isfinite()
        return
    with pytest.raises(SettingError, match="the mask 'mask' does not fit .*augmentation .*set it to None"):
        model.discriminator_turn(images, extras=extras)
    assert list(model.judge(images, images, extras=extras).extras) == ['label']


def test_a_row_with_weights_of_its_own_is_refused(make_model):
    class Learned(Seen):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

    with pytest.raises(SettingError, match=r'losses\.own: Learned has parameters, .* would not train'):
        make_model(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL, own=dict(type=Learned)))


# what the discriminator sees

def test_both_turns_augment_by_the_image_s_seed(make_model, make_images):
    model = make_model(discriminator_augmentation=dict(type='DiffAugment'))
    images = make_images(4)
    augmented = model.judge(images, images, [1, 2, 3, 4])
    assert not torch.equal(augmented.real, images)
    assert torch.equal(augmented.real, augmented.fake)
    assert torch.equal(model.judge(images[2:], images[2:], [3, 4]).real, augmented.real[2:])
    model.eval()
    step = model.reconstruct(images, [1, 2, 3, 4]).step
    torch.testing.assert_close(step.discriminator(images), model.judge(images, images, [1, 2, 3, 4]).real_scores)


@pytest.mark.parametrize('objective', ['hinge', 'vanilla', 'relativistic'])
@pytest.mark.parametrize('discriminator', ['PatchDiscriminator', 'MultiScaleDiscriminator'])
def test_every_objective_trains_with_every_row(make_model, make_images, make_batch, make_optimizers, objective,
                                               discriminator):
    model = make_model(discriminator=dict(type=discriminator, num_layers=1, width=4), turns='joint',
                       discriminator_augmentation=dict(type='DiffAugment'),
                       losses=dict(pixel=PIXEL, adversarial={**ADVERSARIAL, 'objective': objective}, **ROWS,
                                   features=dict(type='FeatureMatchingLoss')))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update = model.train_step([make_batch(make_images(2, 32, 32))], make_optimizers(model), model.turns_of(0))
    assert update.skipped is None
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items()
               if name.startswith('discriminator.'))
