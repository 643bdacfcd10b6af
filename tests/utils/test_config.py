from pathlib import Path

import pytest
from mmengine.config import Config

from wfvae_toolkit.utils.config import configs_folder, find_config, load_config
from wfvae_toolkit.utils.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DEMO = 'wfvae_toolkit::wfvae2_demo.py'
CONFIG = dict(
    work_dir=None,
    model=dict(
        type='AutoencoderTraining',
        autoencoder=dict(type='WFVAE2Image', widths=(8, 16), wavelet=dict(type='Haar'),
                         mid_blocks=[dict(type='ResidualBlock'), dict(type='SpatialAttention')]),
        losses=dict(pixel=dict(type='L1Loss'), kl=dict(type='KLLoss', weight=1e-6), wavelet=None)),
    train_cfg=dict(type='UpdateLoop', max_iters=10),
    optim_wrapper=dict(constructor='TurnOptimizers', autoencoder=dict(optimizer=dict(type='AdamW', lr=1e-5))),
    default_hooks=dict(ema=dict(type='EMAHook', decay=0.9)),
    visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')]))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    Config(CONFIG).dump(path)
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with configs inside."""
    root = tmp_path / 'site' / 'package_with_configs'
    (root / 'configs' / 'deep').mkdir(parents=True)
    (root / '__init__.py').touch()
    (root / 'configs' / 'base.py').write_text(
        "train_cfg = dict(type='UpdateLoop', max_iters=1, accumulation=2)\nwork_dir = 'base'\n")
    (root / 'configs' / 'deep' / 'child.py').write_text("_base_ = '../base.py'\ntrain_cfg = dict(max_iters=3)\n")
    monkeypatch.syspath_prepend(root.parent)
    return root


# where configs are

def test_a_file_is_taken_as_it_is(config):
    assert find_config(config) == find_config(str(config)) == str(config)


def test_shipped_configs_are_found_by_package():
    assert Path(find_config('wfvae_toolkit::wfvae2_1024.py')) == CONFIGS / 'wfvae2_1024.py'
    assert Path(find_config('wfvae_toolkit::_base_/runtime.py')) == CONFIGS / '_base_' / 'runtime.py'


def test_other_packages_ship_configs(package, tmp_path):
    assert configs_folder('package_with_configs') == package / 'configs'
    assert find_config('package_with_configs::deep/child.py') == str(package / 'configs' / 'deep' / 'child.py')
    loop = load_config('package_with_configs::deep/child.py').train_cfg
    assert loop == dict(type='UpdateLoop', max_iters=3, accumulation=2)


@pytest.mark.parametrize('base', ["'package_with_configs::deep/child.py'",
                                  "['package_with_configs::deep/child.py', 'local.py']"])
def test_bases_may_stand_in_packages(package, tmp_path, base):
    (tmp_path / 'local.py').write_text("log_level = 'DEBUG'\n")
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = {base}\nwork_dir = 'own'\ntrain_cfg = dict(accumulation=5)\n")
    cfg = load_config(path)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.accumulation, cfg.work_dir) == (3, 5, 'own')
    assert ('log_level' in cfg) == ('local' in base)


@pytest.mark.parametrize(('path', 'message'), [
    ('absent.py', r'no config file absent\.py$'),
    ('somewhere/wfvae2_demo.py', r'no config file somewhere/wfvae2_demo\.py; there is wfvae_toolkit::wfvae2_demo\.py'),
    ('wfvae_toolkit::wfvae3.py', r'wfvae_toolkit ships no config wfvae3\.py; there are: .*wfvae2_1024\.py'),
    ('package_with_configs::x.py', r'package_with_configs ships no config x\.py; there are: base\.py, deep/child\.py'),
    ('absent_package::x.py', 'absent_package:: names a package that is not installed'),
    ('json::x.py', 'package json has no configs folder'),
    ('string::x.py', 'string:: names a package that is not installed'),
])
def test_what_is_not_there_says_what_is(package, path, message):
    with pytest.raises(FileNotFoundError, match=message):
        find_config(path)


# options

@pytest.mark.parametrize(('key', 'value'), [
    ('model.autoencoder.widths', (4, 8)),
    ('model.losses.kl.weight', 1e-3),
    ('model.losses.kl', None),
    ('work_dir', 'somewhere'),
    ('model.autoencoder.mid_blocks.1.type', 'ResidualBlock'),
    # Settings that the file does not mention, of parts from ours and from MMEngine's and torch's registries.
    ('model.normalize', True),
    ('model.autoencoder.dropout', 0.1),
    ('model.autoencoder.mid_blocks.0.dropout', 0.1),
    ('model.losses.pixel.weight', 2.0),
    ('train_cfg.accumulation', 2),
    ('optim_wrapper.autoencoder.optimizer.betas', (0.5, 0.9)),
    ('optim_wrapper.autoencoder.clip_grad', dict(max_norm=1.0)),
    ('visualizer.vis_backends.0.save_dir', 'somewhere'),
    ('custom_imports', dict(imports=['json'])),
    # New rows.
    ('model.losses.second', dict(type='L2Loss')),
    ('default_hooks.pictures', dict(type='PicturesHook')),
])
def test_options_reach_their_place(config, key, value):
    node = load_config(config, {key: value})
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


def test_the_rest_stays(config):
    expected, changed = load_config(config).to_dict(), load_config(config, {'model.losses.kl.weight': 3}).to_dict()
    assert changed != expected
    expected['model']['losses']['kl']['weight'] = 3
    assert changed == expected


def test_a_new_row_is_given_by_its_type_and_settings(config):
    options = {'model.losses.second.weight': 0.5, 'model.losses.second.type': 'L2Loss'}
    assert load_config(config, options).model.losses.second == dict(type='L2Loss', weight=0.5)


def test_settings_are_those_of_a_type_that_changes_too(config):
    options = {'model.autoencoder.wavelet.name': 'db2', 'model.autoencoder.wavelet.type': 'DiscreteWavelet'}
    assert load_config(config, options).model.autoencoder.wavelet == dict(type='DiscreteWavelet', name='db2')


@pytest.mark.parametrize(('key', 'message'), [
    ('modle.normalize', 'the config has no modle; did you mean model?'),
    ('model.losses.kl.weigth', 'model.losses.kl has no weigth; did you mean model.losses.kl.weight?'),
    ('model.autoencoder.dropuot', 'model.autoencoder has no dropuot; did you mean model.autoencoder.dropout?'),
    ('train_cfg.max_iter', 'train_cfg has no max_iter; did you mean train_cfg.max_iters?'),
    ('train_cfg.runner', 'train_cfg has no runner'),
    ('optim_wrapper.autoencoder.clipgrad', 'did you mean optim_wrapper.autoencoder.clip_grad?'),
    ('optim_wrapper.autoencoder.optimizer.beta', 'did you mean optim_wrapper.autoencoder.optimizer.betas?'),
    ('default_hooks.ema.decays', 'did you mean default_hooks.ema.decay?'),
    ('model.autoencoder.mid_blocks.2.type', 'model.autoencoder.mid_blocks has no 2'),
    ('model.autoencoder.wavelet.name', 'model.autoencoder.wavelet has no name'),
    ('model.losses.second.weight', 'model.losses has no second'),
    ('model.losses.wavelet.weight', ': model.losses.wavelet is None; give model.losses.wavelet.type as well'),
])
def test_mistyped_options_name_the_nearest(config, key, message):
    with pytest.raises(UserError) as caught:
        load_config(config, {key: 1})
    assert f'--cfg-options {key}: ' in str(caught.value)
    assert message in str(caught.value)


def test_every_option_of_a_command_is_checked(config):
    with pytest.raises(UserError, match='model.losses.kl has no wait'):
        load_config(config, {'work_dir': 'x', 'model.losses.kl.weight': 1, 'model.losses.kl.wait': 1})


def test_imports_of_an_option_are_done(config, tmp_path, monkeypatch):
    (tmp_path / 'imported_by_an_option.py').write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match='imported'):
        load_config(config, {'custom_imports': dict(imports=['imported_by_an_option'])})


# the style of the files

def test_a_file_may_import(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("import os\nwork_dir = os.path.join('a', 'b')\n")
    assert load_config(path).to_dict() == {'work_dir': 'a/b'}


@pytest.mark.parametrize('path', sorted(CONFIGS.rglob('*.py')), ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_shipped_configs_load(path):
    cfg = load_config(path)
    for row in (cfg.get('model') or {}).get('losses', {}).values():
        assert row is None or 'type' in row


def test_options_give_a_removed_row_back():
    cfg = load_config('wfvae_toolkit::ablations/no_wavelet_loss.py', {
        'model.losses.wavelet.type': 'WaveletFlowLoss', 'model.losses.wavelet.weight': 0.2})
    assert cfg.model.losses.wavelet == dict(type='WaveletFlowLoss', weight=0.2)


def test_an_option_replaces_a_part_with_all_its_settings():
    cfg = load_config('wfvae_toolkit::wfvae2_demo.py', {'model.losses.perceptual': {'type': 'LPIPSLoss'}})
    assert cfg.model.losses.perceptual == dict(type='LPIPSLoss')


def test_options_reach_into_lists_and_tuples():
    cfg = load_config('wfvae_toolkit::wfvae2_1024.py', {
        'model.autoencoder.widths.0': 64, 'train_dataloader.dataset.pipeline.1.size': 32})
    assert list(cfg.model.autoencoder.widths) == [64, 256, 512]
    assert [step['size'] for step in cfg.train_dataloader.dataset.pipeline] == [1024, 32]


def test_every_setting_of_a_loader_is_an_option():
    from dataclasses import fields

    from wfvae_toolkit.datasets.loader import LoaderSettings

    cfg = load_config(DEMO)
    for field in fields(LoaderSettings):
        value = cfg.val_dataloader.get(field.name, field.default)
        assert load_config(DEMO, {f'val_dataloader.{field.name}': value}).val_dataloader[field.name] == value
