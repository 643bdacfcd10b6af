"""What makes us fast and small, in counts that no machine's noise touches."""

import pytest

from wfvae_toolkit.analysis.benchmark.networks import Bench
from wfvae_toolkit.analysis.kernels import record
from wfvae_toolkit.utils.config import load_config


@pytest.fixture(scope='module')
def default_model():
    return load_config('wfvae_toolkit::wfvae2_1024.py').model.to_dict()


@pytest.mark.slow
def test_memory_kept_for_backward_of_every_further_pixel(default_model):
    # Between two sizes what does not grow with the image drops out: the discriminator's normalised weights, the
    # kernels of the upsampling. The attention matrix of the plain formulation grows faster still at 1024 px.
    small, large = Bench(default_model, size=64), Bench(default_model, size=128)
    ours, checkpointed, plain = (large.kept_bytes(model) - small.kept_bytes(model)
                                 for model in ('ours', 'checkpointed', 'plain'))
    assert ours <= 0.6 * plain
    assert checkpointed <= 0.35 * plain


@pytest.mark.slow
def test_memory_kept_for_backward_at_512_px(default_model):
    # At 1024 px the plain one alone takes 15 GB.
    bench = Bench(default_model, size=512)
    ours, checkpointed, plain = (bench.kept_bytes(model) for model in ('ours', 'checkpointed', 'plain'))
    assert ours <= 0.6 * plain
    assert checkpointed <= 0.35 * plain


def test_arithmetic_of_an_autoencoder_turn(default_model):
    bench = Bench(default_model, size=64)
    ours, plain = (record(bench.work('autoencoder_turn', model)) for model in ('ours', 'plain'))
    assert ours.flops <= 0.86 * plain.flops
    # VGG16 has 13 convolutions, the discriminator 6; plain runs both backward twice.
    assert plain.calls['convolution_backward'] - ours.calls['convolution_backward'] >= 13 + 6


def test_arithmetic_of_a_forward_pass(default_model):
    encode = record(Bench(default_model).work('encode', 'ours')).flops
    decode = record(Bench(default_model).work('decode', 'ours')).flops
    # 64.6 and 130.3 GFLOP as written down; doubling and its convolution in one save 5/9 of 38.7.
    assert encode == pytest.approx(64.6e9, rel=2e-3)
    assert decode == pytest.approx(130.3e9 - 5 / 9 * 38.65e9, rel=2e-3)


def test_no_copies_between_layouts_but_the_small_ones(default_model):
    recorded = record(Bench(default_model).work('forward', 'ours'))
    # Twelve and eight channels into channels-last, and the upsampling kernels; no feature map (8 MiB each) is copied.
    kernels = 4 * 9 * (512**2 + 256**2)
    assert recorded.copied_bytes <= kernels + 4 * 4 * 3 * 256**2
