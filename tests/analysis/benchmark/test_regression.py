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
    """name -> autoencoder turn of the default model in float32 for an edge in px, and its networks."""
    found = {}
    for name, settings in (('ours', {}), ('checkpointed', dict(checkpoint_activations=True))):
        model = {**default_model, 'autoencoder': {**default_model['autoencoder'], **settings}}
        training = Bench(model).training_model('ours')
        found[name] = (lambda size, t=training: t.autoencoder_turn(_images(size), sample_seeds=[0])[0], [training])
    plain = PlainTurns(training)
    found['plain'] = (lambda size: plain.autoencoder_turn(_images(size), torch.zeros(1, 8, size // 8, size // 8)),
                      [plain.autoencoder, plain.discriminator, plain.losses])
    return found


def _images(size):
    return torch.linspace(-1, 1, 3 * size**2).reshape(1, 3, size, size)


def test_memory_kept_for_backward_of_every_further_pixel(turns):
    # Between two sizes what does not grow with the image drops out: the discriminator's normalised weights, the
    # kernels of the upsampling. The attention matrix of the plain formulation grows faster still at 1024 px.
    kept = {name: saved_bytes(lambda turn=turn: turn(2 * SIZE), networks)
            - saved_bytes(lambda turn=turn: turn(SIZE), networks) for name, (turn, networks) in turns.items()}
    assert kept['ours'] <= 0.6 * kept['plain']
    assert kept['checkpointed'] <= 0.35 * kept['plain']


def test_arithmetic_of_an_autoencoder_turn(turns):
    def work(name):
        function, _ = turns[name]
        return record(lambda: function(SIZE).backward())
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
