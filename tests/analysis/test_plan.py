"""A run's estimate: counted work and stated rates."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wfvae_toolkit.analysis.kernels import WorkMeter, record
from wfvae_toolkit.analysis.memory import Forecaster
from wfvae_toolkit.analysis.plan import GPUS, Rates, all_reduce_seconds, cost_of, find_gpu, make_plan
from wfvae_toolkit.registry import MODELS
from wfvae_toolkit.training.memory import AFTER, DISCRIMINATOR, LiveStorages
from wfvae_toolkit.utils.config import load_config
from wfvae_toolkit.utils.errors import SettingError

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'
H100, RATES = GPUS['H100'], Rates()


@pytest.fixture(scope='module')
def tiny():
    cfg = load_config(TINY, {'model.autoencoder.mid_blocks': [], 'model.autoencoder.encoder_layers': 1})
    return cfg, Forecaster(cfg)


def test_an_operation_takes_the_longer_of_its_two_times():
    work = Counter({(1e12, 1e3, True): 2, (0, 3.35e12, False): 1})
    cost = cost_of(work, H100, RATES)
    assert cost.matrix_seconds == pytest.approx(2 * 1e12 / (0.5 * 989e12))
    assert cost.seconds == pytest.approx(cost.matrix_seconds + 1 / 0.8)
    assert (cost.flops, cost.moved) == (2e12, 2e3 + 3.35e12)


def test_reads_and_writes_count_and_views_do_not():
    meter = WorkMeter()
    x, w = torch.zeros(4, 8), torch.zeros(8, 2)
    with LiveStorages(meter):
        x.view(8, 4).T[1:]
        torch.empty(7)
        x @ w
    assert meter.take() == {(2 * 4 * 8 * 2, 4 * (32 + 16 + 8), False): 1}
    assert meter.take() == {}


def test_flops_are_those_of_a_real_turn(tiny):
    cfg, forecaster = tiny
    phases = {phase.name: phase for phase in forecaster(replace(forecaster.load, world_size=8), work=True).phases}
    torch.manual_seed(0)
    model = MODELS.build(cfg.model.to_dict()).train()
    images = torch.zeros(2, 3, 16, 16)
    for name, turn in ((AFTER, model.autoencoder_turn), (DISCRIMINATOR, model.discriminator_turn)):
        real = record(lambda turn=turn: turn(images, sample_seeds=[0, 1])[0].backward()).flops
        assert sum(flops * count for (flops, _, _), count in phases[name].work.items()) == real


@pytest.mark.parametrize(('gpus', 'per_machine', 'seconds'), [
    (1, 8, 0.0), (8, 8, 2 * 7 / 8 / (450e9 * 0.7)), (2, 1, 1 / (12.5e9 * 0.7)),
    (64, 8, 2 * 7 / 8 / (450e9 * 0.7) + 2 * 7 / 8 / (12.5e9 * 0.7))])
def test_rings_move_twice_the_gradients(gpus, per_machine, seconds):
    assert all_reduce_seconds(1.0, gpus, per_machine, H100, RATES) == pytest.approx(seconds)


def test_a_plan_adds_up(tiny):
    cfg, forecaster = tiny
    plan = make_plan(cfg, forecaster, 8)
    assert plan.reduced_bytes['autoencoder'] == 4 * sum(p.numel() for p in forecaster.model.autoencoder.parameters())
    assert plan.images_per_s * plan.update_s == pytest.approx(2 * 8)
    compute = 2 / 6 * plan.turns['autoencoder turn before the discriminator starts'].seconds + 4 / 6 * (
        plan.turns[AFTER].seconds + plan.turns[DISCRIMINATOR].seconds) / 2
    assert plan.limits['arithmetic and memory of the GPUs'] == pytest.approx(compute)
    updates = plan.hours * 3600 * (1 - plan.validation_share - plan.checkpoint_share)
    assert updates == pytest.approx(6 * plan.update_s)


@pytest.mark.slow
def test_stages_have_plans_of_their_own(tiny):
    cfg = copy.deepcopy(tiny[0])
    cfg.train_cfg.stages = [dict(start_iter=0, size=16), dict(start_iter=2, size=32, accumulation=2)]
    forecaster = Forecaster(cfg)
    first, second = (make_plan(cfg, forecaster, 8, stage=number) for number in (0, 1))
    assert (first.updates, second.updates) == (2, 4)
    assert second.images_per_s * second.update_s == pytest.approx(2 * 2 * 8)
    assert first.limits['arithmetic and memory of the GPUs'] == pytest.approx(
        first.turns['autoencoder turn before the discriminator starts'].seconds)
    assert second.limits['arithmetic and memory of the GPUs'] == pytest.approx(
        (second.turns[AFTER].seconds + second.turns[DISCRIMINATOR].seconds) / 2)


def test_slow_decoding_limits_a_run(tiny):
    cfg, forecaster = tiny
    plan = make_plan(cfg, forecaster, 8, rates=Rates(decode_s=8.0, cores=4))
    assert plan.update_s == plan.limits['decoding of images'] == 2 * 8 * 8.0 / 4


@pytest.mark.slow
def test_the_tool_marks_its_estimate(tool, capsys):
    tool('analysis_tools/plan_run')(TINY, '--gpus', '8', '--growth')
    text = capsys.readouterr().out
    assert 'an estimate from counted work and stated rates, not a measurement' in text
    for part in ('a multiply and an add are 2', 'communication: ', 'storage: ', 'checkpoint: ', 'limit: ',
                 '6 updates: ', '| 64 | NVLink |', '| 64 | both |'):
        assert part in text


def test_numbers_that_cannot_be():
    with pytest.raises(SettingError, match='H100, H200'):
        find_gpu('H1000')
    with pytest.raises(SettingError, match='whole machines'):
        make_plan(None, None, 12, 8)
