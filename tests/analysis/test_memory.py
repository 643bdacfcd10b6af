"""Memory of a config that is not running; its check against real trainings is slow."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wfvae_toolkit.analysis.memory import (
    Forecaster,
    added_bytes,
    compare,
    crop_size,
    measure_training,
    parse_bytes,
    table,
    with_stand_ins,
)
from wfvae_toolkit.datasets.buckets import possible_sizes
from wfvae_toolkit.registry import MODELS
from wfvae_toolkit.training.memory import CHECKPOINT, count_memory
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'


def test_a_network_without_weights_counts_as_one_with_them():
    cfg = load_config(TINY)
    forecaster = Forecaster(cfg)
    torch.manual_seed(0)
    real = count_memory(MODELS.build(cfg.model.to_dict()).train(), cfg.optim_wrapper.to_dict(), forecaster.load)
    assert forecaster() == real
    assert (real.load.batch, real.load.size, real.load.val_size, real.load.start_iter) == (2, 16, 32, 2)


def test_each_stage_that_is_reached_has_its_load():
    cfg = load_config(TINY, {'model.normalize': True, 'train_cfg.stages': [
        dict(start_iter=0, size=16), dict(start_iter=2, size=32, batch_size=1, accumulation=4),
        dict(start_iter=6, size=64)]})
    first, second = Forecaster(cfg).loads
    assert (first.batch, first.size, first.accumulation, first.start_iter) == (2, 16, 1, 2)
    assert second == replace(first, batch=1, size=32, accumulation=4, start_iter=0)
    with pytest.raises(SettingError, match='the check trains one size'):
        with_stand_ins(cfg)


@pytest.mark.slow
def test_a_table_has_the_largest_batches():
    cfg = load_config(TINY)
    line = list(table({'a/tiny.py': cfg}, {'1GB': 10**9, '100KB': 10**5}))[-1]
    assert re.fullmatch(r'\| tiny \| 2 x 16 px, fp32 \| .* \| (\d{3}|1024 or more) \| none \|', line)


@pytest.mark.parametrize('config', ['wfvae2_1024', 'zoo/wfvae2_tiny'])
def test_shipped_configs_build_without_data_and_downloads(config):
    forecaster = Forecaster(load_config(f'wfvae_toolkit::{config}.py'))
    assert {parameter.device.type for parameter in forecaster.model.parameters()} == {'meta'}
    assert forecaster.load.size in (64, 1024)


@pytest.mark.parametrize(('text', 'size'), [('80GB', 80 * 10**9), ('1.5 GiB', 3 * 2**29), ('512MB', 512 * 10**6)])
def test_bytes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize('text', ['80', 'much', '-1GB', '80gb'])
def test_bytes_need_a_unit(text):
    with pytest.raises(SettingError, match='80GB'):
        parse_bytes(text)


def test_crops_are_read_from_the_config():
    pipeline = [dict(type='RandomCrop', size=48), dict(type='RandomFlip')]
    assert crop_size(dict(type='ImageFolder', pipeline=pipeline)) == 48
    assert crop_size(dict(type='ImageFolder')) is None
    assert crop_size(dict(type='SyntheticImages', size=40)) == 40
    assert crop_size(dict(type='ImageFolder', pipeline=[dict(type='CropToSize', sizes=[(64, 32)])])) == (32, 64)


def test_of_buckets_the_largest_possible_size_counts():
    buckets = dict(type='AspectBuckets', size=1024, multiple_of=64, dataset=dict(type='ImageFolder', data_root='x'))
    height, width = crop_size(buckets)
    possible = possible_sizes(1024, 64, 2.0)
    assert height * width == max(height * width for height, width in possible)
    assert (width, height) in possible
    assert crop_size({**buckets, 'buckets': [(64, 64), (128, 64)]}) == (64, 128)
    stages = [dict(start_iter=0, size=16), dict(start_iter=2, size=64)]
    loads = Forecaster(load_config(TINY, {'model.normalize': True, 'train_cfg.stages': stages,
                                          'train_dataloader.dataset': {**buckets, 'multiple_of': 8}})).loads
    assert [load.size for load in loads] == [16, (88, 48)]
    with pytest.raises(SettingError, match='train_dataloader.dataset.*buckets is a list of sizes'):
        Forecaster(load_config(TINY, {'model.normalize': True, 'train_cfg.stages': stages, 'train_dataloader.dataset': {
            **buckets, 'buckets': [(64, 64)]}}))
    with pytest.raises(SettingError, match='AspectBuckets: the check trains and scores square crops'):
        with_stand_ins(load_config(TINY, {'train_dataloader.dataset': buckets}))


@pytest.mark.slow
def test_the_tool_says_what_fits(tool, capsys):
    forecast = tool('analysis_tools/memory_forecast')
    forecast(TINY, '--gpu-memory', '1GB')
    text = capsys.readouterr().out
    assert 'memory (counted), peaks in MiB, 2 x 16 px a micro-batch' in text
    assert re.search(r'^1GB: fits; largest micro-batch: (\d{3}|1024 or more)$', text, re.MULTILINE)
    with pytest.raises(SystemExit, match=r'^error: 100KB: the .* does not fit'):
        forecast(TINY, '--gpu-memory', '100KB')


# The independent check: resident memory of a process that trains.
@pytest.mark.slow
@pytest.mark.parametrize(('config', 'options'), [
    ('wfvae2_demo', {}),
    ('wfvae2_demo', {'train_dataloader.batch_size': 32}),
    ('zoo/wfvae2_tiny_256', {}),
    ('wfvae2_256', {'train_dataloader.batch_size': 2, 'model.precision': 'fp32'}),
    ('wfvae2_256', {'train_dataloader.batch_size': 1, 'train_cfg.accumulation': 2, 'model.precision': 'fp32'}),
    ('wfvae2_256', {'train_dataloader.batch_size': 2, 'model.precision': 'fp32',
                    'model.autoencoder.checkpoint_activations': True})])
def test_counted_peaks_are_within_15_percent_of_measured_ones(config, options):
    cfg = with_stand_ins(load_config(f'wfvae_toolkit::{config}.py', options))
    forecast = Forecaster(cfg)()
    measured = measure_training(cfg)
    print(compare(forecast, measured))
    names = [phase.name for phase in forecast.phases if phase.name != CHECKPOINT]
    assert names
    largest = max(forecast.phases, key=lambda phase: measured.get(phase.name, 0))
    assert set(names) <= measured.keys()
    assert added_bytes(largest) == pytest.approx(measured[largest.name], rel=0.15)
