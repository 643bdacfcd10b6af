"""Latent transforms inside the training step; each by itself: tests/models/test_latent_transforms.py."""

import json

import pytest
import torch

from wfvae_toolkit.utils.errors import SettingError

NOISE, PREFIX = dict(type='NoisyLatents', max_std=0.5), dict(type='ChannelPrefix', channels=(1, 3))


def test_the_decoder_sees_the_transformed_latents(make_model, make_images):
    model = make_model(latent_transforms=[dict(type='ChannelPrefix', channels=(1,))])
    step = model.reconstruct(make_images(), [3, 4]).step
    assert (step.latents[:, 0] != 0).any()
    assert (step.latents[:, 1:] == 0).all()
    with torch.no_grad():
        assert torch.allclose(model.autoencoder.decode(step.latents).sample, step.reconstruction, atol=1e-6)


@pytest.mark.parametrize('transforms', [[NOISE], [PREFIX], [NOISE, PREFIX]])
def test_an_image_trains_alike_in_any_batch(make_model, make_images, transforms):
    model, images = make_model(latent_transforms=transforms), make_images(4)
    whole = model.reconstruct(images, [5, 6, 7, 8]).step.latents
    torch.testing.assert_close(model.reconstruct(images[2:], [7, 8]).step.latents, whole[2:])


def test_both_turns_see_the_same_latents(make_model, make_images):
    model, images = make_model(latent_transforms=[NOISE]), make_images()
    assert torch.equal(model.reconstruct_without_gradient(images, [1, 2]),
                       model.reconstruct(images, [1, 2]).reconstruction.detach())


def test_evaluation_decodes_without_them(make_model, make_images):
    plain, noisy = make_model(), make_model(latent_transforms=[NOISE])
    assert torch.equal(plain.eval()(make_images()), noisy.eval()(make_images()))


def test_a_wrong_setting_is_named_with_its_place(make_model):
    with pytest.raises(SettingError, match=r'latent_transforms\.1: NoisyLatents: max_std=-1'):
        make_model(latent_transforms=[NOISE, dict(type='NoisyLatents', max_std=-1)])


def test_a_run_with_transforms_trains_and_scores_by_channels(train, photos, tmp_path):
    train('tiny', tmp_path, **{
        'train_dataloader.dataset.data_root': photos / 'train', 'val_dataloader.dataset.data_root': photos / 'val',
        'train_cfg.max_iters': 2, 'model.latent_transforms': [NOISE, dict(type='ChannelPrefix', channels=(2, 4))],
        'val_evaluator.metrics.prefix': dict(type='PSNRByChannels', channels=(2, 4))})
    scores = json.loads((tmp_path / 'log.jsonl').read_text(encoding='utf-8').splitlines()[-1])
    assert {'prefix.2', 'prefix.4'} <= set(scores)


def test_more_channels_than_there_are_is_an_error_before_training(train, photos, tmp_path):
    with pytest.raises(SystemExit, match='model, on crops of 16 px: ChannelPrefix: .* of 4 latent channels'):
        train('tiny', tmp_path, **{
            'train_dataloader.dataset.data_root': photos / 'train', 'val_dataloader.dataset.data_root': photos / 'val',
            'model.latent_transforms': [dict(type='ChannelPrefix', channels=(2, 8))]})
