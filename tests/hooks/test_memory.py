"""The forecast in the log, before the first iteration."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from wfvae_toolkit.hooks import memory
from wfvae_toolkit.training.memory import BEFORE
from wfvae_toolkit.training.memory_measured import TooLarge
from wfvae_toolkit.training.stages import read_stages
from wfvae_toolkit.utils.errors import SettingError

SHORT = {'train_cfg.max_iters': 3, 'train_cfg.val_interval': 3, 'default_hooks.checkpoint.interval': 3,
         'default_hooks.pictures': None, 'default_hooks.curves': None}
FORECAST = {'default_hooks.memory': dict(type='MemoryForecastHook')}


def test_the_log_has_it_before_the_first_iteration_and_no_bit_changes(train, tmp_path):
    runs = [train('tiny', tmp_path / name, **{**SHORT, **options}) for name, options in (
        ('with', FORECAST), ('without', {}))]
    log, = runs[0].rglob('*.log')
    text = log.read_text(encoding='utf-8')
    start = text.index('memory (counted), peaks in MiB, 2 x 16 px')
    assert start < text.index('iter 1/3') if 'iter 1/3' in text else text.index('iter ')
    for phase in ('autoencoder turn before', 'discriminator turn', 'autoencoder turn ', 'validation', 'checkpoint'):
        assert re.search(rf'^ +{phase}.* \d+\.\d', text[start:], re.MULTILINE)
    first, second = (torch.load(run / 'iter_3.pth', weights_only=True) for run in runs)
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())


def test_every_stage_from_the_present_one_on_has_its_load():
    stages = read_stages([dict(start_iter=0, size=32), dict(start_iter=10, size=64, batch_size=2),
                          dict(start_iter=20, size=128, accumulation=4)], 8, 1)
    dataset = SimpleNamespace(size=None, set_size=lambda size: setattr(dataset, 'size', size))
    dataset.crop_size = lambda: dataset.size
    loop = SimpleNamespace(stages=stages, iter=0, dataloader=SimpleNamespace(dataset=dataset, batch_size=8))
    runner = SimpleNamespace(train_loop=loop, val_loop=None, averaged_autoencoder=None,
                             hooks=[SimpleNamespace(start_iter=15)])
    expected = [memory.Load(8, 32, 1, average=False, start_iter=15), memory.Load(2, 64, 1, average=False, start_iter=5),
                memory.Load(2, 128, 4, average=False)]
    assert list(memory.loads_of(runner)) == expected
    loop.iter = 10
    assert list(memory.loads_of(runner)) == expected[1:]
    dataset.crop_size = lambda: None
    assert list(memory.loads_of(runner)) == []


def test_buckets_are_forecast_at_the_size_with_the_most_pixels(train, photos, tmp_path):
    lines = []
    for number, path in enumerate(sorted((photos / 'train').iterdir())):
        picture = Image.open(path).crop((0, 0, *[(32, 32), (32, 18), (18, 32)][number % 3]))
        picture.save(tmp_path / f'{number}.png')
        Image.new('L', picture.size, 255).save(tmp_path / f'mask{number}.png')
        lines.append(json.dumps(dict(path=f'{number}.png', mask=f'mask{number}.png')))
    (tmp_path / 'photos.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    pictures = dict(type='ImageManifest', data_root=str(tmp_path / 'photos.jsonl'), mask_keys=['mask'])
    run = train('tiny', tmp_path / 'run', **{
        **SHORT, **FORECAST, 'model.normalize': True,
        'train_dataloader.dataset': dict(type='AspectBuckets', size=16, multiple_of=4, dataset=pictures),
        'train_cfg.stages': [dict(start_iter=0, size=8), dict(start_iter=2, size=20, batch_size=1)]})
    log, = run.rglob('*.log')
    text = log.read_text(encoding='utf-8')
    assert re.findall(r'peaks in MiB, (.*) px', text) == ['2 x 8', '1 x 16x28']
    assert 'training pictures: 16x28 px' in text


def test_a_phase_that_does_not_fit_ends_the_run_with_what_would(make_model, monkeypatch):
    def count(model, optimizers, load, extras, networks):
        return SimpleNamespace(largest=SimpleNamespace(peak_bytes=2**20 * (1 + load.batch * (load.size / 32)**2)))

    def ends(*_):
        raise TooLarge(BEFORE)

    runner = SimpleNamespace(model=make_model(), optim_wrapper=None, cfg=SimpleNamespace(optim_wrapper=Config()))
    for name, stand_in in dict(
            loads_of=lambda runner: [memory.Load(batch=64, size=32)], _extras=lambda *_: {}, measure_memory=ends,
            _scoring_networks=lambda *_: [], default_device=lambda: torch.device('cuda', 0),
            count_memory=count).items():
        monkeypatch.setattr(memory, name, stand_in)
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (20 * 2**20, 24 * 2**20))
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda device: 2**20)
    with pytest.raises(SettingError) as caught:
        memory.MemoryForecastHook().before_train(runner)
    assert str(caught.value) == (
        'autoencoder turn before the discriminator starts: 64 images of 32 px in fp32 do not fit into the 0.02 GiB '
        'that this run has on cuda:0. By count these would: train_dataloader.batch_size=20 with '
        'train_cfg.accumulation=4 (0.02 GiB); crops of 16 px (0.02 GiB)')
