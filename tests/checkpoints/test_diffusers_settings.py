import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints.files import EXPORTED, WEIGHTS, same, write_exported
from tests.helpers import build_small
from wfvae_toolkit.checkpoints import CheckpointError, read_model
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.torchvision_shim import import_torchvision

# our own export

def test_an_exported_folder(tmp_path):
    model = read_model(write_exported(tmp_path))
    assert (model.form, model.weights) == ('diffusers', 'ema')
    assert same(model.build(), build_small())
    raw = torch.randn(2, 3, 4, 4)
    mean, std = (torch.tensor(EXPORTED[key])[:, None, None] for key in ('latents_mean', 'latents_std'))
    torch.testing.assert_close(model.statistics.normalize(raw), ((raw - mean) / std - 0.25) * 0.5)
    with pytest.raises(CheckpointError, match='has no raw weights, only ema'):
        read_model(tmp_path, 'raw')


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(typo=3), 'AutoencoderWFVAE2 has no setting typo'),
    (dict(latents_mean=[1.0]), 'must be finite, one for each of 3 latent channels'),
    (dict(latents_std=[1.0, 0.0, 1.0]), 'must be finite, one for each of 3 latent channels'),
    (dict(latents_mean=3.0), 'latents_mean=3.0; a list is needed'),
    (dict(latent_channels='3'), "latent_channels='3'; an integer is needed"),
    (dict(scaling_factor=0), 'must be finite, one for each of 3 latent channels'),
    (dict(norm={'type': 'subprocess.Popen', 'args': ['touch', 'trace']}), "names type 'subprocess.Popen', which no"),
    (dict(wavelet={'type': 'os.system', 'command': 'touch trace'}), "names type 'os.system', which no registry"),
    (dict(widths=[8, 16]), 'do not fit its own config'),
    (dict(_class_name='UNet2DConditionModel'), 'of a UNet2DConditionModel; supported are .*a MODEL is'),
    (dict(_class_name=None), 'of a model without _class_name'),
])
def test_settings_of_an_exported_folder_are_checked(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    folder = write_exported(tmp_path / 'vae', {**EXPORTED, **changes})
    with pytest.raises(CheckpointError, match=message):
        read_model(folder).build()
    assert not (tmp_path / 'trace').exists()


# diffusers' own autoencoders

@pytest.fixture
def diffusers():
    import_torchvision()  # which diffusers imports, and fails without the shim beside a CPU build of torch
    import diffusers
    return diffusers


def save_kl(diffusers, folder, **settings):
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8, latent_channels=4,
        down_block_types=('DownEncoderBlock2D',) * 2, up_block_types=('UpDecoderBlock2D',) * 2, **settings).eval()
    model.save_pretrained(folder)
    return model


def test_autoencoder_kl(tmp_path, diffusers):
    theirs = save_kl(diffusers, tmp_path, scaling_factor=0.5, shift_factor=0.25)
    model = read_model(tmp_path)
    ours, images = model.build(), torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images).sample)
    assert model.statistics == LatentStatistics((0.25,) * 4, (2.0,) * 4)
    # Files from before diffusers 0.18.
    path = tmp_path / f'{WEIGHTS}.safetensors'
    old = load_file(path)
    for now, then in (('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'), ('to_out.0', 'proj_attn')):
        old = {key.replace(f'.{now}.', f'.{then}.'): value for key, value in old.items()}
    assert any('proj_attn' in key for key in old)
    save_file(old, path)
    assert torch.equal(read_model(tmp_path).build()(images), ours(images))


def test_an_autoencoder_kl_without_quant_convs(tmp_path, diffusers):
    theirs = save_kl(diffusers, tmp_path, use_quant_conv=False, use_post_quant_conv=False)
    images = torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(read_model(tmp_path).build()(images), theirs(images).sample)


def test_an_autoencoder_kl_that_ours_cannot_be_is_named(tmp_path, diffusers):
    save_kl(diffusers, tmp_path, use_quant_conv=False, mid_block_add_attention=False)
    with pytest.raises(CheckpointError, match='cannot express mid_block_add_attention=False, use_post_quant_conv=True, '
                                              'use_quant_conv=False'):
        read_model(tmp_path)


def test_autoencoder_dc(tmp_path, diffusers):
    theirs = diffusers.AutoencoderDC(
        latent_channels=4, encoder_block_out_channels=(8, 16), decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), scaling_factor=0.25).eval()
    theirs.save_pretrained(tmp_path)
    model = read_model(tmp_path)
    images = torch.rand(1, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.build()(images), theirs(images).sample)
    assert model.statistics == LatentStatistics((0.0,) * 4, (4.0,) * 4)


def save_tiny(diffusers, folder, width=8, **settings):
    torch.manual_seed(0)
    model = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(width, width), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 2),
        num_decoder_blocks=(2, 1), **settings).eval()
    model.save_pretrained(folder)
    return model


def test_autoencoder_tiny(tmp_path, diffusers):
    theirs = save_tiny(diffusers, tmp_path, latent_channels=3, latent_magnitude=2, latent_shift=0.25, force_upcast=True,
                       scaling_factor=0.5, act_fn='silu')
    model = read_model(tmp_path)
    images, latents = torch.rand(1, 3, 16, 24) * 2 - 1, torch.randn(1, 3, 8, 12) * 4
    ours = model.build()
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(images).latent_dist.mode(), theirs.encode(images).latents)
        torch.testing.assert_close(ours.decode(latents).sample, theirs.decode(latents).sample)
    assert model.statistics == LatentStatistics((0.0,) * 3, (2.0,) * 3)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(width=4), 'cannot express decoder_block_out_channels=.8, 8., encoder_block_out_channels=.4, 4.'),
    (dict(upsampling_scaling_factor=3), 'cannot express upsampling_scaling_factor=3'),
])
def test_an_autoencoder_tiny_that_ours_cannot_be_is_named(tmp_path, diffusers, settings, message):
    save_tiny(diffusers, tmp_path, **settings)
    with pytest.raises(CheckpointError, match=message):
        read_model(tmp_path)
