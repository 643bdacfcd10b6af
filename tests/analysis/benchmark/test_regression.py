"""What makes us fast and small, in counts that no machine's noise touches."""

import pytest
import torch

from wfvae_toolkit.analysis.benchmark.networks import Bench
from wfvae_toolkit.analysis.benchmark.plain import PlainTurns
from wfvae_toolkit.analysis.kernels import record, saved_bytes
from wfvae_toolkit.utils.config import load_config

SIZE = 64


@pytest.fixture(scope='module')
def default_model():
    return load_config('wfvae_toolkit::wfvae2_1024.py').model.to_dict()


@pytest.fixture(scope='module')
def turns(default_model):
    """name -> (autoencoder turn, its networks), of the default model in float32 at 64 px."""
    found = {}
    for name, settings in (('ours', {}), ('checkpointed', dict(checkpoint_activations=True))):
        model = {**default_model, 'autoencoder': {**default_model['autoencoder'], **settings}}
        bench = Bench(model, size=SIZE)
        training, images = bench.training_model('ours'), bench.images()
        found[name] = (lambda t=training, i=images: t.autoencoder_turn(i, sample_seeds=[0])[0], [training])
    plain = PlainTurns(training)
    noise = torch.zeros(1, 8, SIZE // 8, SIZE // 8)
    found['plain'] = (lambda: plain.autoencoder_turn(images, noise),
                      [plain.autoencoder, plain.discriminator, plain.losses])
    return found


def test_memory_kept_for_backward(turns):
    kept = {name: saved_bytes(*turn) for name, turn in turns.items()}
    # The transposed kernels of the upsampling (20 MiB) do not grow with the image, so larger ones do better.
    kernels = 4 * 16 * (512**2 + 256**2)
    assert kept['ours'] - kernels <= 0.6 * kept['plain']
    assert kept['checkpointed'] - kernels <= 0.35 * kept['plain']


def test_arithmetic_of_an_autoencoder_turn(turns):
    def work(name):
        function, _ = turns[name]
        return record(lambda: function().backward())
    ours, plain = work('ours'), work('plain')
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
