import pytest
import torch

from wfvae_toolkit.models.autoencoders import (
    DiffusersAutoencoderDC,
    DiffusersAutoencoderKL,
    DiffusersAutoencoderTiny,
)
from wfvae_toolkit.registry import AUTOENCODERS
from wfvae_toolkit.utils.errors import UserError

KL = dict(type='DiffusersAutoencoderKL', latent_channels=4, widths=(8, 16), layers=1, groups=8)
DC = dict(type='DiffusersAutoencoderDC', latent_channels=4, encoder_block_types='ResBlock',
          decoder_block_types='ResBlock', encoder_block_out_channels=(8, 16), decoder_block_out_channels=(8, 16),
          encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
          decoder_qkv_multiscales=((), ()))
TINY = dict(type='DiffusersAutoencoderTiny', latent_channels=4, width=8, encoder_blocks=(1, 2), decoder_blocks=(2, 1))
LOSSES = dict(pixel=dict(type='L1Loss'), adversarial=dict(type='AdversarialLoss', balance=('pixel',)))


@pytest.mark.parametrize(('config', 'cls'), [
    (KL, DiffusersAutoencoderKL), ({**KL, 'quant_conv': False}, DiffusersAutoencoderKL), (DC, DiffusersAutoencoderDC),
    (TINY, DiffusersAutoencoderTiny)])
def test_encode_and_decode_are_diffusers_own(config, cls):
    import diffusers

    torch.manual_seed(0)
    ours = cls(**{key: value for key, value in config.items() if key != 'type'}).eval()
    torch.manual_seed(0)
    if cls is DiffusersAutoencoderKL:
        convs = config.get('quant_conv', True)
        theirs = diffusers.AutoencoderKL(
            latent_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8,
            use_quant_conv=convs, use_post_quant_conv=convs,
            down_block_types=('DownEncoderBlock2D',) * 2, up_block_types=('UpDecoderBlock2D',) * 2).eval()
    elif cls is DiffusersAutoencoderTiny:
        theirs = diffusers.AutoencoderTiny(
            latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1)).eval()
    else:
        theirs = diffusers.AutoencoderDC(**{key: value for key, value in config.items() if key != 'type'}).eval()
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        latents = ours.encode(images).latent_dist.mode()
        encoded = theirs.encode(images)
        expected = encoded.latent_dist.mode() if hasattr(encoded, 'latent_dist') else encoded[0]
        torch.testing.assert_close(latents, expected)
        torch.testing.assert_close(ours.decode(latents).sample, theirs.decode(latents).sample)
    assert images.shape[-1] // latents.shape[-1] == ours.downsample_factor
    assert ours.last_layer.shape[0] == 3


@pytest.mark.parametrize('config', [KL, DC, TINY])
def test_another_posterior_is_refused(config):
    with pytest.raises(UserError, match=f"{config['type']}: no setting is called 'posterior'; its settings are"):
        AUTOENCODERS.build({**config, 'posterior': dict(type='GaussianPosterior')})


@pytest.mark.parametrize('config', [KL, DC, TINY])
def test_it_trains_in_both_turns_of_the_same_loop(make_model, make_images, make_batch, make_optimizers, config):
    model = make_model()
    model = type(model)(config, LOSSES, dict(type='PatchDiscriminator', num_layers=1, width=4)).train()
    optimizers = make_optimizers(model, lr=1e-4)
    for iteration in range(2):
        update = model.train_step([make_batch(make_images())], optimizers, model.turns_of(iteration))
        assert not update.skipped
    assert 'discriminator' in update.log


def test_a_loss_on_bands_says_what_to_set(make_model, make_images):
    model = type(make_model())(KL, dict(wavelet=dict(type='WaveletFlowLoss')))
    with pytest.raises(ValueError, match='losses.wavelet=None'):
        model.autoencoder_turn(make_images())


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(decoder_blocks=(1, 1, 1)), 'both need one number for each size'),
    (dict(upsample_fn='sharp'), "upsample_fn='sharp': use one of nearest, "),
    (dict(act_fn='loud'), "DiffusersAutoencoderTiny: .*loud"),
    (dict(latent_magnitude=3), "no setting is called 'latent_magnitude'"),
])
def test_settings_of_autoencoder_tiny_are_checked(changes, message):
    with pytest.raises(UserError, match=message):
        AUTOENCODERS.build({**TINY, **changes})


def test_settings_are_checked():
    with pytest.raises(ValueError, match='32 groups do not divide the widths'):
        DiffusersAutoencoderKL(widths=(8, 16))
    with pytest.raises(ValueError, match='use multiples of 2'):
        DiffusersAutoencoderKL(**{key: value for key, value in KL.items() if key != 'type'}).encode(
            torch.zeros(1, 3, 17, 16))
