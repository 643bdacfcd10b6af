import copy
import logging
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from PIL import Image
from torch import nn

from wfvae_toolkit.hooks.pictures import PicturesHook, patch_scores
from wfvae_toolkit.models.discriminators import MultiScaleDiscriminator, PatchDiscriminator

SHORT = {'train_cfg.max_iters': 6, 'train_cfg.val_interval': 2, 'default_hooks.curves': None,
         'default_hooks.discriminator.start_iter': 3}


@pytest.fixture(scope='module')
def with_and_without(train, tmp_path_factory):
    """Folders of the same run with the hook and without."""
    folder = tmp_path_factory.mktemp('pictures')
    train('tiny', folder / 'with', **SHORT)
    train('tiny', folder / 'without', **SHORT, **{'default_hooks.pictures': None})
    return folder


def test_training_is_the_same_to_the_last_bit(with_and_without):
    states = [torch.load(with_and_without / run / 'iter_6.pth', weights_only=True) for run in ('with', 'without')]
    for part in ('state_dict', 'ema_state_dict'):
        one, two = (state[part] for state in states)
        assert any('discriminator' in key and key.endswith('weight_u') for key in states[0]['state_dict'])
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_scores_are_shown_once_the_discriminator_has_started(with_and_without):
    columns = {}
    for iteration in (2, 4, 6):
        with Image.open(with_and_without / f'with/pictures/iter_{iteration}.png') as picture:
            columns[iteration] = (picture.size[0] + 4) / (32 + 4)
    assert columns == {2: 3, 4: 5, 6: 5}


def test_the_log_states_the_range(with_and_without):
    log, = (with_and_without / 'with').rglob('*.log')
    lines = [line for line in log.read_text().splitlines() if 'patch scores from -' in line]
    assert ['iter_4.png' in line for line in lines] == [True, False]


@pytest.mark.parametrize('norm', ['spectral', 'batch'])
def test_a_discriminator_stays_as_it_is(make_images, norm):
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(num_layers=1, width=8, norm=norm).train()
    discriminator.norms[1].eval()  # a frozen part stays frozen
    before, modes = copy.deepcopy(discriminator.state_dict()), [part.training for part in discriminator.modules()]
    images, generator = make_images(3, 16, 24), torch.get_rng_state()
    scores = patch_scores(discriminator, images)
    assert all(torch.equal(value, before[key]) for key, value in discriminator.state_dict().items())
    assert [part.training for part in discriminator.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    with torch.no_grad():
        torch.testing.assert_close(scores, discriminator.eval()(images))


def test_of_several_scales_the_full_resolution_is_shown(make_images):
    discriminator = MultiScaleDiscriminator(scales=2, num_layers=1, width=8).eval()
    images = make_images(2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(patch_scores(discriminator, images), discriminator(images)[0])


def test_one_score_an_image_covers_all_of_it(make_images):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(2.0))

        def forward(self, images):
            return self.factor * images.mean((1, 2, 3))

    images = make_images(2, 8, 8)
    assert patch_scores(Whole(), images).shape == (2, 1, 1, 1)
    torch.testing.assert_close(patch_scores(Whole(), images).flatten(), 2 * images.mean((1, 2, 3)))


def test_images_of_another_size_stay_out_and_the_log_says_so_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    hook = PicturesHook(count=3)
    runner = SimpleNamespace(iter=5, work_dir=tmp_path, logger=logging.getLogger(), visualizer=MagicMock(),
                             model=SimpleNamespace(discriminator=None))
    for _ in range(2):
        hook.before_val_epoch(runner)
        for height in (16, 24, 16):
            images = torch.zeros(1, 3, height, 32)
            hook.after_val_iter(runner, 0, outputs={'target': images, 'reconstructions': {'': images}})
        hook.after_val_epoch(runner)
    assert caplog.messages == ['PicturesHook: shows 2 of the first 3 validation images: the others differ in size '
                               'from the first, 32x16']
    with Image.open(tmp_path / 'pictures/iter_5.png') as picture:
        assert picture.height == 2 * 16 + 4
