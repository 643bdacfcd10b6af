"""Every wrong value ends the start of a run with its key and what would work, before the first iteration."""

import itertools
from pathlib import Path

import pytest

from wfvae_toolkit.training import TrainingRunner
from wfvae_toolkit.training.loops import UpdateLoop
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import UserError

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'

LOSS = 'model.losses.pixel'
TRAIN, VAL = 'train_dataloader', 'val_dataloader'
ADAM = 'optim_wrapper.autoencoder.optimizer'
# (option, value, words of the message)
WRONG = [
    # model
    ('model.type', 'AutoencoderTrainin', 'AutoencoderTraining'),
    ('model.type', 'L1Loss', 'AutoencoderTraining'),
    ('model.precision', 'bf_16', 'fp32, bf16, fp16'),
    ('model.precision', 16, "such as 'fp32'"),
    ('model.turns', 'both', 'alternate, joint'),
    ('model.normalize', 'yes', 'True or False'),
    ('model.learn_logvar', 3, 'True or False'),
    ('model.logvar', 'zero', 'a number'),
    ('model.logvar', float('nan'), 'a number'),
    ('model.freeze', ['autoencoder.no_such.*'], 'matches no parameter'),
    ('model.freeze', 'autoencoder.encoder.*', 'a list'),
    ('model.compile', 'yes', 'dict'),
    ('model.compile', dict(mod='x'), 'mode'),
    ('model.losses', {}, 'at least one row'),
    ('model.losses', None, 'at least one row'),
    ('model.losses.pixel', 'L1Loss', "dict(type='Name', ...)"),
    ('model.losses.pixel', dict(weight=1.0), "dict(type='Name', ...)"),
    ('model.losses.pixel.type', 'L1Los', "did you mean 'L1Loss'"),
    ('model.losses.pixel.type', 'Haar', 'no loss is called'),
    ('model.losses.pixel.type', 'nowhere.to.be.Found', 'nowhere'),
    ('model.losses.pixel.type', 3, 'type'),
    ('model.losses.pixel.wieght', 2, 'did you mean model.losses.pixel.weight'),
    ('model.losses.pixel', dict(type='L1Loss', wieght=2), 'weight'),
    ('model.losses.pixel.weight', 'heavy', 'a number'),
    ('model.losses.pixel.weight', '1e-6x', 'a number'),
    ('model.losses.pixel.weight', float('nan'), 'a number'),
    ('model.losses.pixel.weight', float('inf'), 'finite'),
    ('model.losses.pixel.weight', None, 'a number'),
    ('model.losses.pixel.weight', [1], 'a number'),
    ('model.losses.adversarial.balance', ('pixle',), 'rows: '),
    ('model.losses.adversarial.balance', 'pixel', 'a list'),
    ('model.losses.adversarial.objective', 'wgan', 'hinge, vanilla'),
    ('model.losses.adversarial.max_ratio', 0, 'above 0'),
    ('model.losses.adversarial.max_ratio', 'large', 'a number'),
    ('model.losses.second', dict(type='AdversarialLoss'), 'both adversarial'),
    ('model.losses.perceptual', dict(type='LPIPSLoss', net='resnet'), 'vgg'),
    ('model.losses.perceptual', dict(type='STLPIPSLoss', net='resnet'), 'alex'),
    ('model.losses.perceptual', dict(type='STLPIPSLoss', crop=3), 'at least'),
    ('model.losses.second', dict(type='DistillationLoss', teacher=3.5), 'a path or a name'),
    ('model.autoencoder.decoder_widths', '1k', 'a list'),
    ('model.autoencoder.decoder_flow_width', '1k', 'a positive integer'),
    ('model.losses.perceptual', dict(type='STLPIPSLoss', crop='all'), 'None'),
    ('model.autoencoder', None, "dict(type='Name', ...)"),
    ('model.autoencoder.type', 'WFVAE2', 'WFVAE2Image'),
    ('model.autoencoder.type', 'PatchDiscriminator', 'no autoencoder'),
    ('model.autoencoder.latent_channels', 0, 'positive integer'),
    ('model.autoencoder.latent_channels', 4.0, 'a whole number is needed, such as 8'),
    ('model.autoencoder.latent_channels', '4', 'a whole number is needed, such as 8'),
    ('model.autoencoder.widths', 64, 'a list'),
    ('model.autoencoder.widths', (8,), 'at least two'),
    ('model.autoencoder.widths', 'wide', 'a list'),
    ('model.autoencoder.widths', (8, '12'), 'positive integer'),
    ('model.autoencoder.widths', (8, -12), 'positive integer'),
    ('model.autoencoder.decoder_widths', (8, 8, 8), '3 decoder_widths for 2 widths'),
    ('model.autoencoder.decoder_widths', 8, 'a list'),
    ('model.autoencoder.encoder_layers', 0, 'at least 1'),
    ('model.autoencoder.encoder_layers', 'two', 'a whole number or a list is needed, such as 2'),
    ('model.autoencoder.encoder_layers', 1.5, 'a whole number or a list'),
    ('model.autoencoder.decoder_layers', 1, 'at least 2'),
    ('model.autoencoder.decoder_layers', (2, 2, 2), 'a list of 1'),
    ('model.autoencoder.energy_flow', False, 'energy_flow'),
    ('model.autoencoder.energy_flow', 'no', 'True or False'),
    ('model.autoencoder.flow_width', 0, 'positive integer'),
    ('model.autoencoder.dropout', 1.5, 'dropout'),
    ('model.autoencoder.dropout', 'some', 'a number'),
    ('model.autoencoder.wavelet', 'Haar', "dict(type='Name', ...)"),
    ('model.autoencoder.wavelet.type', 'Har', "did you mean 'Haar'"),
    ('model.autoencoder.wavelet', dict(type='DiscreteWavelet', name='db99'), 'db99'),
    ('model.autoencoder.norm.type', 'LayerNorm', "did you mean 'LayerNorm2d'"),
    ('model.autoencoder.norm', dict(type='GroupNorm', groups=3), 'groups'),
    ('model.autoencoder.norm', dict(type='GroupNorm', groups=0), 'groups'),
    ('model.autoencoder.mid_blocks', dict(type='ResidualBlock'), 'a list'),
    ('model.autoencoder.mid_blocks', [dict(type='ResidualBlok')], "did you mean 'ResidualBlock'"),
    ('model.autoencoder.channel_attention', dict(type='Haar'), 'no channel attention'),
    ('model.autoencoder', dict(type='WFVAE2Image', widths=(8, 12), latent_shortcuts=True), 'must divide'),
    ('model.discriminator', None, 'needs model.discriminator'),
    ('model.discriminator.type', 'PatchGAN', 'PatchDiscriminator'),
    ('model.discriminator.num_layers', 0, 'num_layers'),
    ('model.discriminator.num_layers', 9, 'num_layers'),
    ('model.discriminator.num_layers', 'three', 'num_layers'),
    ('model.discriminator.width', 0, 'width'),
    # loop
    ('train_cfg.max_iters', 0, 'positive integer'),
    ('train_cfg.max_iters', -5, 'positive integer'),
    ('train_cfg.max_iters', 'many', 'a whole number'),
    ('train_cfg.max_iters', 1e5, 'a whole number'),
    ('train_cfg.max_iters', True, 'a whole number'),
    ('train_cfg.max_iters', None, 'a whole number'),
    ('train_cfg.val_interval', 0, 'positive integer'),
    ('train_cfg.val_interval', 2.5, 'a whole number'),
    ('train_cfg.accumulation', 0, 'positive integer'),
    ('train_cfg.accumulation', '2', "'2'"),
    ('train_cfg.max_bad_files', -1, '0 or more'),
    ('train_cfg.max_bad_files', 'all', 'a whole number is needed, such as 100'),
    ('train_cfg.max_skipped', 0, 'positive integer'),
    ('train_cfg.type', 'UpdateLop', 'UpdateLoop'),
    ('train_cfg.type', 'IterBasedTrainLoop', 'UpdateLoop'),
    ('val_cfg.type', 'ValLoop', 'EvaluationLoop'),
    ('randomness.seed', None, 'randomness.seed'),
    ('randomness.seed', -1, 'randomness.seed'),
    ('randomness.seed', 'lucky', 'randomness.seed'),
    ('randomness.seed', 1.5, 'randomness.seed'),
    ('load_from', 'nowhere.pth', 'nowhere.pth'),
    ('load_from', dict(weights='ema'), 'path'),
    ('load_from', 3, 'load_from'),
    # optimizers
    ('optim_wrapper.constructor', 'TurnOptimizer', 'TurnOptimizers'),
    ('optim_wrapper.autoencoder', None, "use dict(optimizer=dict(type='AdamW'"),
    ('optim_wrapper.generator', dict(optimizer=dict(type='SGD', lr=1)), 'has no generator'),
    (ADAM, None, "use dict(type='AdamW', lr=1e-5)"),
    (f'{ADAM}.type', 'Adamw', 'AdamW'),
    (f'{ADAM}.type', 'L1Loss', 'no optimizer is called'),
    (f'{ADAM}.lr', -1e-4, 'lr'),
    (f'{ADAM}.lr', 'small', 'lr'),
    (f'{ADAM}.lr', float('nan'), 'lr'),
    (f'{ADAM}.lr', None, 'lr'),
    (f'{ADAM}.betas', 0.9, 'betas'),
    (f'{ADAM}.betas', (0.9, 1.0), 'betas'),
    (f'{ADAM}.betas', (0.9,), 'betas'),
    (f'{ADAM}.betas', ('a', 'b'), 'betas'),
    (f'{ADAM}.weight_decay', -1, 'weight_decay'),
    (f'{ADAM}.wd', 0.1, 'wd'),
    ('optim_wrapper.autoencoder.clip_grad', 5, 'max_norm'),
    ('optim_wrapper.autoencoder.clip_grad', dict(max_nrm=1), 'max_norm'),
    ('optim_wrapper.autoencoder.clip_grad', dict(max_norm=-1), 'max_norm'),
    ('optim_wrapper.autoencoder.clip_grad', dict(max_norm='big'), 'max_norm'),
    # hooks
    ('default_hooks.ema.decay', 2, 'between 0 and 1'),
    ('default_hooks.ema.decay', '0.9x', 'such as 0.999'),
    ('default_hooks.ema.type', 'EMAHok', 'EMAHook'),
    ('default_hooks.mine', dict(type='NoSuchHook'), 'NoSuchHook'),
    ('default_hooks.checkpoint.interval', 0, '1 or more'),
    ('default_hooks.checkpoint.interval', 'often', 'such as 1000'),
    ('default_hooks.checkpoint.max_keep_ckpts', -2, '0 or -1 keeps all'),
    ('default_hooks.checkpoint.save_best', 'PSMR', 'PSNR'),
    ('default_hooks.checkpoint.save_best', 3.5, 'PSNR'),
    ('default_hooks.logger.interval', 0, '1 or more'),
    ('default_hooks.logger.interval', None, 'such as 50'),
    ('default_hooks.learning_rate.decay', 'linear', 'constant, cosine'),
    ('default_hooks.learning_rate.warmup_iters', -1, '0 or more'),
    ('default_hooks.learning_rate.warmup_iters', 'short', 'a whole number'),
    ('default_hooks.learning_rate.final_factor', 2, '0 to 1'),
    ('default_hooks.discriminator.start_iter', -1, '0 or more'),
    ('default_hooks.discriminator.start_iter', 'late', 'a whole number'),
    ('default_hooks.discriminator.train_iter', 3, '0 to start_iter=2'),
    ('default_hooks.pictures.count', -1, 'count'),
    ('default_hooks.pictures.count', 'all', 'count'),
    ('default_hooks.flat_fields.interval', 0, '1 or more'),
    ('default_hooks.flat_fields.levels', [300], '0 to 255'),
    ('default_hooks.flat_fields.levels', 128, 'levels'),
    ('custom_hooks', [dict(type='NoSuchHook')], 'NoSuchHook'),
    ('custom_hooks', dict(type='EMAHook'), 'custom_hooks'),
    # data
    (f'{TRAIN}.batch_size', 0, 'at least 1'),
    (f'{TRAIN}.batch_size', 1.5, 'a whole number'),
    (f'{TRAIN}.batch_size', 'large', 'a whole number'),
    (f'{TRAIN}.num_workers', -1, 'at least 0'),
    (f'{TRAIN}.num_workers', 'auto', 'a whole number'),
    (f'{TRAIN}.shuffle', 'no', 'True or False'),
    (f'{TRAIN}.prefetch_factor', 0, 'prefetch_factor'),
    (f'{TRAIN}.timeout_s', -1, 'timeout_s'),
    (f'{TRAIN}.timeout_s', 'long', 'timeout_s'),
    (f'{TRAIN}.max_images', 0, 'at least 1'),
    (f'{TRAIN}.max_images', 'few', 'a whole number or None'),
    (f'{TRAIN}.dataset', 'data', "dict(type='ImageFolder'"),
    (f'{TRAIN}.dataset.type', 'ImageFoldr', "did you mean 'ImageFolder'"),
    (f'{TRAIN}.dataset.type', 'CenterCrop', 'no dataset is called'),
    (f'{TRAIN}.dataset.data_root', 'nowhere', f'set {TRAIN}.dataset.data_root'),
    (f'{TRAIN}.dataset.data_root', None, 'a path is needed'),
    (f'{TRAIN}.dataset.data_root', 3, 'a path is needed'),
    (f'{TRAIN}.dataset.extensions', 'png', 'a list or None is needed'),
    (f'{TRAIN}.dataset', dict(type='SyntheticImages', kinds=['text']), 'use a dict'),
    (f'{TRAIN}.dataset', dict(type='SyntheticImages', kinds=dict(text='one')), 'use positive weights'),
    (f'{TRAIN}.dataset', dict(type='SyntheticImages', kinds=dict(txt=1)), 'use positive weights of texture'),
    (f'{TRAIN}.dataset.extensions', ['psd'], 'psd'),
    (f'{TRAIN}.dataset.on_bad', 'skip', 'substitute'),
    (f'{TRAIN}.dataset.background', 'whit', 'white'),
    (f'{TRAIN}.dataset.background', (1, 2), 'three integers'),
    (f'{TRAIN}.dataset.background', 7, 'white'),
    (f'{TRAIN}.dataset.max_pixels', 0, 'max_pixels'),
    (f'{TRAIN}.dataset.max_pixels', 'lots', 'max_pixels'),
    (f'{TRAIN}.dataset.cache_mib', -1, 'cache_mib'),
    (f'{TRAIN}.dataset.cache_mib', 'all', 'cache_mib'),
    (f'{TRAIN}.dataset.decoder', 'quick', "'exact', 'fast'"),
    (f'{TRAIN}.dataset.decoder', 'fast', 'begin the pipeline with ResizeShortSide'),
    (f'{TRAIN}.dataset.pipeline', dict(type='CenterCrop', size=16), 'a list'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='CentreCrop', size=16)], 'CenterCrop'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='CenterCrop', size=0)], 'from 1'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='CenterCrop', size='16')], 'a whole number'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='CenterCrop', size=18)], 'multiple'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='CenterCrop')], 'size'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='RandomCrop', size=16, scale=2)], 'scale'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='RandomCrop', size=16, scale=(2, 1))], 'scale'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='RandomFlip', probability=2)], '0 to 1'),
    (f'{TRAIN}.dataset.pipeline', [dict(type='RandomFlip', probability='half')], 'such as 0.5'),
    (f'{VAL}.dataset.data_root', 'nowhere', f'set {VAL}.dataset.data_root'),
    (f'{VAL}.dataset.on_bad', 'substitute', 'never substitutes'),
    (f'{VAL}.shuffle', True, 'keeps the order'),
    (f'{VAL}.batch_size', 0, 'at least 1'),
    (f'{VAL}.dataset.pipeline', [dict(type='CenterCrop', size=30)], 'multiple'),
    (TRAIN, None, TRAIN),
    # scores, logs
    ('val_evaluator.type', 'ReconstructionEvaluater', "did you mean 'ReconstructionEvaluator'"),
    ('val_evaluator.quantize', 'yes', 'True or False'),
    ('val_evaluator.metrics', None, 'metrics'),
    ('val_evaluator.metrics.PSNR.type', 'PSMR', 'PSNR'),
    ('val_evaluator.metrics.PSNR', 'PSNR', "dict(type='Name', ...)"),
    ('val_evaluator.metrics.a/b', dict(type='PSNR'), 'a/b'),
    ('visualizer.vis_backends', [dict(type='Tensorbord')], 'Tensorbord'),
    ('log_level', 'LOUD', 'INFO'),
    ('env_cfg', 3, 'env_cfg'),
]


@pytest.fixture(scope='module')
def start(photos, tmp_path_factory):
    """Starts a run of tiny.py with options up to its first iteration."""
    numbers = itertools.count()

    def run(**options):
        cfg = load_config(TINY, {
            'train_dataloader.dataset.data_root': str(photos / 'train'),
            'val_dataloader.dataset.data_root': str(photos / 'val'),
            # Runs that start in one second would share MMEngine's logger.
            'experiment_name': f'wrong_{next(numbers)}', 'log_level': 'ERROR', **options})
        cfg.work_dir = str(tmp_path_factory.mktemp('run'))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(UpdateLoop, 'run', lambda self: 'trains')
            return TrainingRunner.from_cfg(cfg).train()
    return run


def test_without_a_wrong_value_it_would_train(start):
    assert start() == 'trains'


@pytest.mark.parametrize(('option', 'value', 'words'), WRONG, ids=lambda part: str(part)[:60])
def test_a_wrong_value_is_named_with_what_would_work(start, option, value, words):
    with pytest.raises(UserError) as caught:
        start(**{option: value})
    said = str(caught.value)
    assert words in said
    # The part of the config that it is in, and the key itself.
    assert option.split('.')[0] in said or option.split('.')[-1] in said, said
