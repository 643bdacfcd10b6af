"""Every kind of part from another package, by each of the three ways, and a training with all of them."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from wfvae_toolkit import registry as registries
from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.evaluation import EvaluationBatch
from wfvae_toolkit.losses import Step
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.plugins import GROUP, load_plugins
from wfvae_toolkit.visualization.records import read_records

KINDS = {'WAVELETS': 'StrangeWavelet', 'NORM_LAYERS': 'StrangeNorm', 'MID_BLOCKS': 'StrangeMidBlock',
         'LOSSES': 'StrangeLoss', 'DISCRIMINATORS': 'StrangeDiscriminator', 'DATASETS': 'StrangeDataset',
         'TRANSFORMS': 'StrangeTransform', 'METRICS': 'StrangeMetric', 'HOOKS': 'StrangeHook',
         'AUTOENCODERS': 'StrangeAutoencoder'}
TINY = Path(__file__).parents[1] / 'data/configs/tiny.py'
REGISTER = 'import stranger_parts as parts\nfrom wfvae_toolkit import registry\n\n' + ''.join(
    f'registry.{constant}.register_module(module=parts.{name})\n' for constant, name in KINDS.items())


@pytest.fixture(params=['custom_imports', 'dotted path', 'entry point'])
def way(request, tmp_path, monkeypatch):
    """(name of a class -> ``type`` in a config, first lines of that config); afterwards nothing of it is left."""
    monkeypatch.syspath_prepend(request.path.parents[1] / 'data/plugins')
    monkeypatch.syspath_prepend(tmp_path)
    load_plugins.cache_clear()
    (tmp_path / 'stranger.py').write_text(REGISTER)
    prefix, lines = '', ''
    if request.param == 'dotted path':
        prefix = 'stranger_parts.'
    elif request.param == 'custom_imports':
        lines = "custom_imports = dict(imports='stranger')\n"
    else:
        info = tmp_path / 'strange_parts-0.3.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: strange-parts\nVersion: 0.3\n')
        (info / 'entry_points.txt').write_text(f'[{GROUP}]\nstrange = stranger\n')
    yield lambda name: prefix + name, lines
    for constant, name in KINDS.items():
        getattr(registries, constant).module_dict.pop(name, None)
    for module in ('stranger', 'stranger_parts'):
        sys.modules.pop(module, None)
    load_plugins.cache_clear()


def use(kind, build, photos, folder):
    """Build a part through its registry and let it work; whether it did."""
    images = torch.linspace(-1, 1, 3 * 8 * 8).view(1, 3, 8, 8)
    if kind == 'WAVELETS':
        wavelet = build()
        return torch.equal(wavelet.synthesize(wavelet.analyze(images)), images)
    if kind == 'NORM_LAYERS':
        return build(channels=3, gain=2.0)(images).abs().max() == 1.0
    if kind == 'MID_BLOCKS':
        return build(channels=3, norm=dict(type='RMSNorm2d'))(images).shape == images.shape
    if kind == 'DISCRIMINATORS':
        return build(width=2)(images).shape == (1, 1, 2, 2)
    if kind == 'DATASETS':
        dataset = build(data_root=photos / 'train')
        return dataset[0].path > dataset[len(dataset) - 1].path
    if kind == 'TRANSFORMS':
        return build()(Image.new('RGB', (1, 1), 'black')).getpixel((0, 0)) == (255, 255, 255)
    if kind == 'METRICS':
        return build().measure(EvaluationBatch(images, images)).tolist() == [1.0]
    if kind == 'AUTOENCODERS':
        model = build(wavelet=dict(type='Haar'), norm=dict(type='RMSNorm2d'), mid_block=dict(type='ResidualBlock'))
        return model.decode(model.encode(images).latent_dist.mode()).sample.shape == images.shape
    if kind == 'LOSSES':
        return build()(Step(images, images + 0.5, None, None)) == pytest.approx(0.5)
    build().after_train_iter(SimpleNamespace(work_dir=folder), batch_idx=4)
    return (folder / 'strange.txt').read_text() == '5'


@pytest.mark.parametrize('kind', KINDS)
def test_a_part_of_every_kind(way, kind, photos, tmp_path):
    type_of, lines = way
    (tmp_path / 'config.py').write_text(lines)
    load_config(tmp_path / 'config.py')
    part = dict(type=type_of(KINDS[kind]))
    registry = getattr(registries, kind)
    assert use(kind, lambda **settings: registry.build(dict(part, **settings)), photos, tmp_path)


def test_a_training_with_all_of_them(way, train, tmp_path):
    type_of, lines = way
    part = {kind: f'type={type_of(name)!r}' for kind, name in KINDS.items()}
    (tmp_path / 'child.py').write_text(f'''_base_ = '{TINY}'
{lines}model = dict(
    autoencoder=dict(_delete_=True, {part['AUTOENCODERS']}, wavelet=dict({part['WAVELETS']}),
                     norm=dict({part['NORM_LAYERS']}), mid_block=dict({part['MID_BLOCKS']})),
    discriminator=dict(_delete_=True, {part['DISCRIMINATORS']}),
    losses=dict(wavelet=None, worst=dict({part['LOSSES']})))
train_dataloader = dict(dataset=dict({part['DATASETS']}, pipeline=[
    dict(type='CenterCrop', size=16), dict({part['TRANSFORMS']})]))
val_evaluator = dict(metrics=dict(exact=dict({part['METRICS']})))
default_hooks = dict(discriminator=dict(start_iter=0), strange=dict({part['HOOKS']}))
''')
    run = train(tmp_path / 'child.py', tmp_path / 'run')
    rows = read_records(run)
    assert (run / 'strange.txt').read_text() == '6'
    assert all(row['worst'] > 0 for row in rows if row['phase'] == 'train')
    assert all(0 <= row['exact'] <= 1 for row in rows if row['phase'] == 'val')
    if not part['WAVELETS'].count('.'):  # a file may name registered parts only
        assert type(read_model(run).build()).__name__ == 'StrangeAutoencoder'
    else:
        assert 'is registered under no name. The run trains and resumes' in next(run.glob('*/*.log')).read_text()
        train(tmp_path / 'child.py', run, '--resume', **{'train_cfg.max_iters': 8})
        assert (run / 'iter_8.pth').is_file()

