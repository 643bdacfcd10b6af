"""What a changed setting does on --resume."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.short_runs import BASE
from wfvae_toolkit.checkpoints.native import save_plain
from wfvae_toolkit.schema import effective_settings
from wfvae_toolkit.training.resume import CLASSES, DROPPABLE, UNKNOWN, _surroundings, class_of, without_parts
from wfvae_toolkit.utils.config import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ['configs/wfvae2_1024.py', 'configs/wfvae2_demo.py', 'configs/ablations/litevae.py',
           'configs/ablations/demo_multi_scale.py', 'tests/data/configs/tiny.py']


@pytest.mark.parametrize('config', CONFIGS)
def test_every_key_of_the_schema_has_a_class(config):
    cfg = load_config(ROOT / config)
    # A row for what is None in the shipped configs.
    cfg.optim_wrapper.autoencoder.paramwise_cfg = dict(norm_decay_mult=0.0, custom_keys={'encoder': dict(lr_mult=0.1)})
    cfg.model.compile = dict(mode='default')
    settings = effective_settings(cfg)
    assert len(settings) > 150
    assert [key for key in settings if class_of(key) is UNKNOWN] == []


def test_a_new_key_has_none():
    """So that the test above notices one."""
    for key in ('new_section', 'model.new', 'train_cfg.new', 'train_dataloader.new', 'env_cfg.new', 'randomness.new',
                'optim_wrapper.new'):
        assert class_of(key) is UNKNOWN, key


def test_classes_are_three():
    assert {found.effect for found in CLASSES.values()} == {'takes effect', 'refused', 'no effect'}
    assert {found.drop for found in CLASSES.values()} == {None, 'discriminator', 'optimizers'} < {None, *DROPPABLE}
    assert all(found.remark for found in CLASSES.values() if found.effect == 'refused')


@pytest.mark.parametrize(('key', 'effect'), [
    ('optim_wrapper.autoencoder.optimizer.lr', 'takes effect'),
    ('optim_wrapper.discriminator.optimizer.type', 'refused'),
    ('optim_wrapper.autoencoder.paramwise_cfg.custom_keys.encoder.lr_mult', 'takes effect'),
    ('model.autoencoder.wavelet.type', 'refused'), ('model.autoencoder.norm.eps', 'refused'),
    ('model.autoencoder.energy_flow', 'refused'), ('model.autoencoder.mid_blocks.0.type', 'refused'),
    ('model.autoencoder.dropout', 'takes effect'), ('model.autoencoder.mid_blocks.0.dropout', 'takes effect'),
    ('model.autoencoder.checkpoint_activations', 'no effect'), ('model.compile', 'no effect'),
    ('model.compile.mode', 'no effect'), ('model.discriminator.norm', 'refused'),
    ('model.discriminator.weights', 'takes effect'),
    ('model.losses.kl.weight', 'takes effect'), ('train_cfg.max_iters', 'takes effect'),
    ('train_dataloader.dataset.sources.photos.dataset.cache_mib', 'no effect'),
    ('train_dataloader.dataset.sources.photos.weight', 'takes effect'),
    ('train_dataloader.num_workers', 'no effect'), ('train_dataloader.batch_size', 'takes effect'),
    ('randomness.seed', 'refused'), ('randomness.deterministic', 'takes effect')])
def test_class_of_a_key(key, effect):
    assert class_of(key).effect == effect


# parts that are dropped

def test_resuming_without_the_discriminator_or_the_optimizers(make_model, training_checkpoint):
    _, content = training_checkpoint
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


# what a resumed run says and refuses

SIX = {**BASE, 'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 6}


@pytest.fixture(scope='module')
def six(train, tmp_path_factory):
    """iter_6 of a run; resumed elsewhere, so that it stays."""
    return train('tiny', tmp_path_factory.mktemp('six'), **SIX) / 'iter_6.pth'


@pytest.fixture
def rewritten(six, tmp_path):
    """The checkpoint after ``change(content)``."""
    def rewrite(change):
        content = torch.load(six, weights_only=True)
        change(content)
        save_plain(content, tmp_path / 'iter_6.pth')
        return tmp_path / 'iter_6.pth'
    return rewrite


@pytest.fixture
def resume(train, tmp_path, capsys):
    """Resume a checkpoint for one update in another folder; returns what is said."""
    def go_on(checkpoint, *arguments, **options):
        capsys.readouterr()
        options = {**SIX, 'train_cfg.max_iters': 7, **options}
        train('tiny', tmp_path / 'on', '--resume', checkpoint, *arguments, **options)
        return ''.join(capsys.readouterr())
    return go_on


def test_new_settings_take_effect_and_are_said(six, resume, tmp_path):
    rates = 'optim_wrapper.autoencoder.optimizer'
    said = resume(six, **{
        f'{rates}.lr': 1.5e-4, f'{rates}.weight_decay': 0.3, f'{rates}.betas': (0.5, 0.9),
        'optim_wrapper.discriminator.clip_grad': None, 'model.losses.kl.weight': 0.5, 'model.losses.wavelet': None,
        'default_hooks.ema.decay': 0.5, 'train_dataloader.num_workers': 1, 'model.autoencoder.dropout': 0.1,
        'model.autoencoder.checkpoint_activations': True, 'train_dataloader.batch_size': 3,
        'val_dataloader.dataset.pipeline.0.size': 16})
    for line in (
            f'{rates}.lr 0.001 -> 0.00015', f'{rates}.weight_decay 0.0001 -> 0.3',
            f'{rates}.betas [0.9, 0.999] -> [0.5, 0.9]',
            "optim_wrapper.discriminator.clip_grad {'max_norm': 100000.0",
            'model.losses.kl.weight 0.001 -> 0.5',
            "model.losses.wavelet {'type': 'WaveletFlowLoss', 'balance': [], 'balance_at': None, 'max_ratio': "
            "1000000.0, 'weight': 0.1} -> None",
            'train_cfg.max_iters 6 -> 7', 'default_hooks.ema.decay 0.9 -> 0.5', 'model.autoencoder.dropout 0.0 -> 0.1',
            'train_dataloader.num_workers 0 -> 1 (no effect on the numbers)',
            'model.autoencoder.checkpoint_activations False -> True (no effect on the numbers)',
            'val_dataloader.dataset.pipeline.0.size 32 -> 16 (scores before and after do not compare)',
            'train_dataloader.batch_size 2 -> 3', 'images an iteration: 2 before, 3 now'):
        assert f'\n  {line}' in said
    group, = torch.load(tmp_path / 'on/iter_7.pth', weights_only=True)['optimizers']['autoencoder']['param_groups']
    assert {name: group[name] for name in ('lr', 'initial_lr', 'weight_decay', 'betas')} == {
        'lr': 1.5e-4, 'initial_lr': 1.5e-4, 'weight_decay': 0.3, 'betas': (0.5, 0.9)}


def test_nothing_is_said_where_nothing_has_changed(six, resume):
    said = resume(six, **{'train_cfg.max_iters': 6})
    assert f'resumed from {six} at iteration 6 of 6' in said
    assert not {'->', 'other things that have changed', 'settings that have changed'} & {word for word in (
        '->', 'other things that have changed', 'settings that have changed') if word in said}


REFUSED = {
    'seed': ({'randomness.seed': 1}, 'randomness.seed was 0 and is 1 .*set it back to resume, or load_from='),
    'wavelet': ({'model.autoencoder.wavelet': dict(type='DiscreteWavelet', name='db2')},
                "wavelet.type was 'Haar' and is 'DiscreteWavelet' .it changes what the network computes"),
    'eps': ({'model.autoencoder.norm.eps': 1e-5}, 'model.autoencoder.norm.eps was 1e-06 and is 1e-05 '),
    'width': ({'model.autoencoder.latent_channels': 3}, 'model.autoencoder.latent_channels was 4 and is 3 '),
    'no adversarial row': ({'model.losses.adversarial': None},
                           'has a discriminator, and the config trains without one .*--resume-drop discriminator goes'),
    'discriminator': ({'model.discriminator.width': 12},
                      'model.discriminator.width was 8 and is 12 .* --resume-drop discriminator goes on with fresh'),
    'optimizer': ({'optim_wrapper.autoencoder.optimizer': dict(type='SGD', lr=1e-3)},
                  "optimizer.type was 'AdamW' and is 'SGD' .* --resume-drop optimizers goes on with fresh ones"),
    'moments': ({'optim_wrapper.autoencoder.optimizer.amsgrad': True},
                'autoencoder.optimizer: holds exp_avg, exp_avg_sq, step of each .*--resume-drop optimizers'),
    'logvar': ({'model.learn_logvar': True}, 'model.learn_logvar was False and is True .* load_from='),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_go_on_is_an_error_with_a_way_out(six, resume, tmp_path, case):
    options, message = REFUSED[case]
    with pytest.raises(SystemExit, match=f'^error: {six}: .*{message}') as exit_:
        resume(six, **options)
    assert '\n' not in exit_.value.code
    assert not list((tmp_path / 'on').glob('iter_*'))


@pytest.mark.parametrize(('dropped', 'options'), [
    ('discriminator', {'model.losses.adversarial': None}), ('discriminator', {'model.discriminator.width': 12}),
    ('optimizers', {'optim_wrapper.autoencoder.optimizer': dict(type='SGD', lr=1e-3)})],
    ids=['no adversarial row', 'another discriminator', 'another optimizer'])
def test_the_way_out_goes_on(six, resume, tmp_path, dropped, options):
    said = resume(six, '--resume-drop', dropped, **options)
    assert f'at iteration 6 of 7, without its {dropped}' in said
    assert f'{next(iter(options))}' in said
    assert (tmp_path / 'on/iter_7.pth').exists()


def test_an_older_checkpoint_says_what_it_cannot_compare(rewritten, resume, tmp_path):
    def age(content):
        del content['meta']['run']
        for state in content['optimizers'].values():
            del state['configured']
    old = rewritten(age)
    said = resume(old, **{'optim_wrapper.autoencoder.optimizer.lr': 1.5e-4, 'model.losses.kl.weight': 0.5})
    assert 'is of an earlier version: settings other than those of autoencoder and optimizers' in said
    assert 'optim_wrapper.autoencoder.optimizer.lr 0.001 -> 0.00015' in said
    assert 'model.losses.kl.weight' not in said.partition('settings that have changed')[2].partition('beside')[0]
    for case in ('seed', 'wavelet', 'no adversarial row'):
        with pytest.raises(SystemExit, match=REFUSED[case][1]):
            resume(old, **REFUSED[case][0])
    for options, message in (
            (REFUSED['optimizer'][0], 'SGD as the config has it keeps nothing.*--resume-drop optimizers'),
            (REFUSED['discriminator'][0], 'does not fit the model .* and [0-9]+ more.*--resume-drop discriminator')):
        with pytest.raises(SystemExit, match=message):
            resume(old, **options)


def test_machine_versions_processes_and_data_are_said(rewritten, resume):
    def elsewhere(content):
        run = content['meta']['run']
        run['machine'].update(cpu='Another 9000', kernels='NONE')
        run['versions']['torch'] = '1.0'
        run['processes'] = 4
        run['data']['train_dataloader'].update(files=1000, digest='0')
    said = resume(rewritten(elsewhere), **{'default_hooks.header': dict(type='RunHeaderHook')})
    for line in ('cpu: Another 9000 before, .* now; equal to a tolerance, not to the bit', 'kernels: NONE before, ',
                 'torch: 1.0 before, ', 'processes: 4 before, 1 now',
                 'train_dataloader: another list of files, 1000 before and 9 now'):
        assert re.search(f'\n  {line}', said), line
        assert re.search(f'\n  since then: {line}', said), line
    assert 'val_dataloader' not in said.partition('other things that have changed')[2].partition('run\n')[0]


def test_other_features_under_the_discriminator_are_noticed():
    rest = dict(data={}, teachers={}, processes=1, images_per_iteration=2, versions={}, machine={})
    first, second, none = (dict(rest, features=features) for features in ('dinov2 (12)', 'dinov2 (34)', None))
    assert _surroundings(first, second) == [
        'model.discriminator: other frozen features, dinov2 (12) before, dinov2 (34) now']
    assert [_surroundings(*pair) for pair in ((first, first), (none, first), (first, none), (rest, first))] == [[]] * 4


def test_another_teacher_is_noticed(six, rewritten, resume, train, tmp_path):
    """A run's folder as the teacher is its newest checkpoint, which changes while it trains."""
    row = {'model.losses.distil': dict(type='DistillationLoss', teacher=str(six))}
    run = train('tiny', tmp_path / 'student', **SIX, **row)
    other = rewritten(lambda content: content['ema_state_dict']['decoder.conv_out.bias'].add_(1))
    assert 'another teacher' not in resume(run / 'iter_6.pth', **row)
    row['model.losses.distil']['teacher'] = str(other)
    assert f'model.losses.distil: another teacher, {six} (ema, ' in resume(run / 'iter_6.pth', **row)


def test_a_changed_list_of_files_is_noticed(six, resume, photos, tmp_path):
    """As many files, other names."""
    shutil.copytree(photos / 'train', tmp_path / 'train')
    first = min((tmp_path / 'train').iterdir())
    first.rename(first.with_name('zz.png'))
    said = resume(six, **{'train_dataloader.dataset.data_root': tmp_path / 'train'})
    assert 'train_dataloader: another list of files, 9 before and 9 now' in said
    assert f"train_dataloader.dataset.data_root '{photos / 'train'}' -> '{tmp_path / 'train'}'" in said
