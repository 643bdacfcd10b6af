import json

import pytest
import torch

from wfvae_toolkit.analysis.benchmark import Bench, format_rows, run_benchmark, to_json
from wfvae_toolkit.analysis.benchmark.limit import Limit
from wfvae_toolkit.analysis.benchmark.pipelines import data_works, evaluation_works
from wfvae_toolkit.analysis.benchmark.timing import interleave, ratio
from wfvae_toolkit.analysis.kernels import record
from wfvae_toolkit.utils.errors import UserError

MODEL = dict(
    type='AutoencoderTraining',
    autoencoder=dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12), flow_width=4),
    discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8),
    losses=dict(pixel=dict(type='L1Loss'), perceptual=dict(type='LPIPSLoss', net='alex'),
                wavelet=dict(type='WaveletFlowLoss'), kl=dict(type='KLLoss', weight=1e-6),
                adversarial=dict(type='AdversarialLoss')))


def test_every_work_of_ours_and_plain():
    works = ['encode', 'decode', 'forward', 'autoencoder_turn', 'discriminator_turn', 'both_turns']
    seen = []
    rows = run_benchmark(Bench(MODEL, size=32), works, ['ours', 'plain'], rounds=1, memory=False, report=seen.append)
    assert [(row.work, row.model) for row in rows] == [(work, model) for work in works for model in ('ours', 'plain')]
    assert rows == seen
    assert all(row.seconds > 0 and row.limit_ratio > 0 and row.flops > 0 for row in rows)
    by_name = {(row.work, row.model): row for row in rows}
    assert by_name['forward', 'ours'].flops == by_name['encode', 'ours'].flops + by_name['decode', 'ours'].flops
    # The plain autoencoder turn runs the perceptual network and the discriminator backward twice.
    assert by_name['autoencoder_turn', 'plain'].flops > by_name['autoencoder_turn', 'ours'].flops
    assert [set(row) for row in json.loads(to_json(rows))] == [
        {'work', 'model', 'seconds', 'low', 'high', 'images_per_second', 'times_first', 'limit_ratio', 'peak_bytes',
         'kept_bytes', 'flops', 'limit_parts'}] * len(rows)
    assert all(row.images_per_second == 1 / row.seconds for row in rows)
    assert len(format_rows(rows).splitlines()) == 2 + len(rows)


def test_joint_turns_and_other_precisions():
    rows = run_benchmark(Bench(MODEL, size=32), ['both_turns'], ['ours', 'joint', 'joint@bf16'], rounds=1, memory=False)
    alternate, joint, bf16 = (row.flops for row in rows)
    # The discriminator takes the reconstruction that is there: one forward pass less.
    assert joint < alternate
    assert bf16 == joint


@pytest.mark.slow
def test_peak_memory_is_of_weights_and_activations():
    row, = run_benchmark(Bench(MODEL, size=512), ['encode'], ['ours'], rounds=1, limit=False)
    # Eight float32 channels at half the size, twice: input and output of a convolution.
    assert row.peak_bytes > 2 * 8 * 256**2 * 4
    assert row.limit_ratio is None


def test_bytes_kept_for_backward():
    bench = Bench(MODEL, size=64)
    ours, checkpointed, plain = (bench.kept_bytes(model) for model in ('ours', 'checkpointed', 'plain'))
    assert 0 < checkpointed < ours < plain


def test_limit_runs_the_recorded_kernels_as_often():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.SiLU(),
                                  torch.nn.Conv2d(3, 3, 3, padding=1)).requires_grad_(False)
    images = torch.zeros(1, 3, 8, 8)
    work = record(lambda: network(images))
    alone = record(Limit(work, torch.device('cpu'), tries=1))
    assert alone.kernels == work.kernels
    assert 'silu' in work.calls
    assert 'silu' not in alone.calls


def test_limit_of_a_backward_pass():
    conv = torch.nn.Conv2d(3, 4, 3)
    images = torch.zeros(1, 3, 8, 8)
    work = record(lambda: conv(images).sum().backward())
    assert record(Limit(work, torch.device('cpu'), tries=1)).flops == work.flops


def test_rounds_are_interleaved():
    order = []
    times = interleave({name: lambda name=name: order.append(name) for name in 'ab'}, 2, torch.device('cpu'))
    assert order == ['a', 'b', *'abab']
    assert [len(values) for values in times.values()] == [2, 2]


def test_ratio_is_taken_round_by_round():
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 2.0]) == 2.0


def test_both_pipelines_give_the_same_crop(tmp_path):
    works = data_works(tmp_path)
    ours, usual = works['ours'](), works['pillow+torchvision']()
    assert ours.shape == usual.shape == (3, 1024, 1024)
    assert (ours.float() - usual.float()).abs().mean() < 1.0  # of 255


def test_both_evaluations_give_the_same_scores():
    works = evaluation_works(size=64, batch=2)
    ours, theirs = works['ours'](), works['three passes']()
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize(('work', 'model'), [
    ('paint', 'ours'), ('autoencoder_turn', 'joint'), ('autoencoder_turn', 'else'), ('encode', 'ours@a')])
def test_unknown_pairs(work, model):
    with pytest.raises(UserError):
        Bench(MODEL, size=32).work(work, model)
