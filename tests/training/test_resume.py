"""Effect of a changed setting on --resume: the table of classes, and the search for changes."""

from pathlib import Path

import pytest

from wfvae_toolkit.schema import effective_settings
from wfvae_toolkit.training.record import changes, of_autoencoder, plain
from wfvae_toolkit.training.resume import CLASSES, DROPPABLE, UNKNOWN, class_of
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
    """Otherwise the test above could not fail."""
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
    ('model.losses.kl.weight', 'takes effect'), ('train_cfg.max_iters', 'takes effect'),
    ('train_dataloader.dataset.sources.photos.dataset.cache_mib', 'no effect'),
    ('train_dataloader.dataset.sources.photos.weight', 'takes effect'),
    ('train_dataloader.num_workers', 'no effect'), ('train_dataloader.batch_size', 'takes effect'),
    ('randomness.seed', 'refused'), ('randomness.deterministic', 'takes effect')])
def test_class_of_a_key(key, effect):
    assert class_of(key).effect == effect


# finding changes

def test_changes_name_the_shortest_place():
    before = {'a.type': 'X', 'a.size': 1, 'rows.one.type': 'L', 'rows.one.weight': 2, 'rows.two': None, 'same': [1]}
    now = {'a.type': 'Y', 'a.width': 3, 'rows.one': None, 'rows.two.type': 'M', 'same': [1], 'new': None}
    assert sorted(changes(before, now)) == [
        ('a.size', 1, None), ('a.type', 'X', 'Y'), ('a.width', None, 3),
        ('rows.one', {'type': 'L', 'weight': 2}, None), ('rows.two', None, {'type': 'M'})]
    assert changes(before, before) == []


def test_autoencoders_are_compared_as_they_compute():
    first = of_autoencoder(dict(type='WFVAE2Image', widths=(8, 12, 16)))
    assert first == of_autoencoder(dict(type='WFVAE2Image', widths=[8, 12, 16], norm=dict(type='LayerNorm2d'),
                                        encoder_layers=[2, 2], decoder_widths=[8, 12, 16]))
    assert changes(first, of_autoencoder(dict(type='WFVAE2Image', widths=(8, 12, 16), norm=dict(
        type='LayerNorm2d', eps=1e-5)))) == [('model.autoencoder.norm.eps', 1e-6, 1e-5)]
    assert of_autoencoder(dict(type='some.package.Model', size=(1, 2))) == {
        'model.autoencoder.type': 'some.package.Model', 'model.autoencoder.size': [1, 2]}


def test_settings_become_plain():
    assert plain(dict(a=(1, 2.5), b=Path('x/y'), c=Path, d=None, e=[dict(f='g')])) == {
        'a': [1, 2.5], 'b': 'x/y', 'c': f'{Path.__module__}.Path', 'd': None, 'e': [{'f': 'g'}]}
