"""Every option of the models and objectives: one update per turn is finite and moves only that turn's weights."""

import pytest
import torch

from wfvae_toolkit.checkpoints import save_training_checkpoint
from wfvae_toolkit.training import TurnOptimizers

PIXEL, ADVERSARIAL = dict(type='L1Loss'), dict(type='AdversarialLoss', balance=('pixel',))
RESIDUAL = dict(downsample=dict(type='ResidualDownsample'), upsample=dict(type='ResidualUpsample'))
AUTOENCODER = dict(type='WFVAE2Image', latent_channels=4, widths=(8, 16), flow_width=4)
SMALL_GROUPS = dict(type='GroupNorm', groups=4)

AUTOENCODERS = {
    'haar': {}, 'pixel_unshuffle': dict(wavelet=dict(type='PixelUnshuffle')),
    'biorthogonal': dict(wavelet=dict(type='DiscreteWavelet', name='bior4.4')),
    'group_norm': dict(norm=SMALL_GROUPS), 'rms_norm': dict(norm=dict(type='RMSNorm2d')),
    'no_energy_flow': dict(energy_flow=False), 'residual_sampling': RESIDUAL, 'shortcuts': dict(latent_shortcuts=True),
    'eca': dict(channel_attention=dict(type='ECA')), 'output_activation': dict(output_activation=True),
    '32x_pieces': {**RESIDUAL, 'energy_flow': False, 'latent_shortcuts': True, 'channel_attention': dict(type='ECA')},
    'no_mid': dict(mid_blocks=[]), 'attention_only': dict(mid_blocks=[dict(type='SpatialAttention')]),
    'asymmetric': dict(decoder_widths=(8, 24), decoder_layers=3, decoder_flow_width=8), 'dropout': dict(dropout=0.2),
    'checkpointed': dict(checkpoint_activations=True)}
MODELS = {
    'bf16': dict(precision='bf16'), 'joint': dict(turns='joint'), 'normalized': dict(normalize=True),
    'logvar': dict(learn_logvar=True), 'frozen_encoder': dict(freeze=['autoencoder.encoder.*']),
    'multi_scale': dict(discriminator=dict(type='MultiScaleDiscriminator', scales=2, num_layers=1, width=4)),
    'u_net': dict(discriminator=dict(type='UNetDiscriminator', num_layers=1, width=4)),
    'frozen_features': dict(discriminator=dict(type='FeatureDiscriminator', features='tests.helpers.TinyMaps',
                                               width=4))}
LOSSES = {
    'l2': dict(pixel=dict(type='L2Loss')), 'vanilla': dict(adversarial={**ADVERSARIAL, 'objective': 'vanilla'}),
    'constant_weight': dict(adversarial={**ADVERSARIAL, 'balance': ()}), 'kl': dict(kl=dict(type='KLLoss')),
    'feature_matching': dict(matching=dict(type='FeatureMatchingLoss')),
    'perceptual': dict(perceptual=dict(type='STLPIPSLoss', crop=24))}
OPTIONS = {**{name: dict(autoencoder={**AUTOENCODER, **value}) for name, value in AUTOENCODERS.items()}, **MODELS,
           **{name: dict(losses=dict(pixel=PIXEL, adversarial=ADVERSARIAL) | value) for name, value in LOSSES.items()}}


def update_both(model, images, make_batch):
    row = dict(optimizer=dict(type='AdamW', lr=1e-3))
    optimizers = TurnOptimizers(dict(autoencoder=row, discriminator=row))(model)
    for iteration in range(2):
        turns = model.turns_of(iteration)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        update = model.train_step([make_batch(images)], optimizers, turns)
        assert not update.skipped
        assert all(torch.isfinite(value).all() for value in update.log.values())
        moved = {name.split('.')[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved - {'losses', 'logvar'} == set(turns)


@pytest.mark.parametrize('name', OPTIONS)
def test_one_update_of_each_turn(make_model, make_images, make_batch, name):
    settings = dict(OPTIONS[name])
    autoencoder = settings.pop('autoencoder', AUTOENCODER)
    if autoencoder.get('energy_flow') is False:  # no bands, no loss on them
        settings['losses'] = dict(pixel=PIXEL, adversarial=ADVERSARIAL)
    update_both(make_model(autoencoder=autoencoder, **settings), make_images(2, 32, 32), make_batch)


def test_one_update_of_each_turn_under_distillation(make_model, make_images, make_batch, tmp_path):
    teacher = make_model(seed=1, autoencoder=AUTOENCODER)
    save_training_checkpoint({'meta': {}, 'state_dict': teacher.state_dict()}, tmp_path / 'iter_1.pth',
                             teacher.autoencoder_config)
    distil = dict(type='DistillationLoss', teacher=str(tmp_path), weights='raw')
    losses = dict(pixel=PIXEL, adversarial=ADVERSARIAL, distil=distil)
    update_both(make_model(autoencoder=AUTOENCODER, losses=losses), make_images(2, 32, 32), make_batch)


def test_documented_phases_are_settings_that_fit_the_shipped_model(make_model):
    """The names in docs/training.md's second phase."""
    from wfvae_toolkit.registry import MODELS
    from wfvae_toolkit.utils.config import load_config

    cfg = load_config('wfvae_toolkit::wfvae2_1024.py')
    cfg.model.losses.update(perceptual=None, adversarial=None)
    cfg.model['freeze'] = ['autoencoder.encoder.conv_in.*', 'autoencoder.encoder.stages.0.*',
                        'autoencoder.decoder.stages.1.*', 'autoencoder.decoder.norm_out.*',
                        'autoencoder.decoder.conv_out.*']
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any(name.startswith('autoencoder.decoder.stages.0.') for name in trained)
    assert not any(name.startswith('autoencoder.decoder.stages.1.') for name in trained)
