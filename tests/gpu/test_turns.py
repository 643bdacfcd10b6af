"""Losses, gradients and updates on a GPU against those on the CPU, which every other test checks."""

import copy

import pytest
import torch

from tests.gpu.models import ABLATIONS, CONFIGS, SHIPPED, build_model, difference, turns
from tests.helpers import noise
from wfvae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS
from wfvae_toolkit.utils.config import load_config

pytestmark = pytest.mark.gpu

# In float32 sums in another order differ by some 1e-5 (tests/tolerances.py). Gradients differ more where a rounding
# moves a value over the corner of a ReLU, of the L1 or of a pool.
SCALARS, GRADIENTS = 1e-3, 1e-2
DEFAULT = CONFIGS / 'wfvae2_1024.py'


@pytest.fixture
def images():
    """(2, 3, 64, 64): the least that four halvings of the discriminator take."""
    return noise(2, 3, 64, 64).mul_(0.3).clamp_(-1, 1)


def compare(path, device, images, small):
    """The turns of one model on the CPU, then on the device with the same weights and buffers."""
    model = build_model(path, small)
    state = copy.deepcopy(model.state_dict())
    expected = turns(model, images)
    model.load_state_dict(state)
    check(turns(model.to(device), images.to(device)), expected, path.stem)


def check(found, expected, name):
    assert found.keys() == expected.keys()
    for turn in found:
        scalars, gradients = difference(found[turn], expected[turn])
        print(f'{name} {turn}: scalars {scalars:.1e}, gradients {gradients:.1e}')
        assert scalars < SCALARS
        assert gradients < GRADIENTS


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_losses_and_gradients_of_a_config_are_those_of_the_cpu(path, device, images):
    compare(path, device, images, small=device.type == 'cpu')


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
@pytest.mark.parametrize('path', [DEFAULT, CONFIGS / 'wfvae2_32x_1024.py'], ids=lambda path: path.stem)
def test_updates_of_both_networks_in_every_precision(path, precision, device, images, make_batch):
    model = build_model(path, device.type == 'cpu', precision=precision).to(device)
    row = load_config(path).optim_wrapper
    optimizers = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=row.constructor, optim_wrapper_cfg=row))(model)
    made = {'autoencoder': 0, 'discriminator': 0}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    # In fp16 the first updates find the scale of the gradients, 2^16 at first, and change no weight.
    for _ in range(24):
        for turn in made:
            if made[turn] < 2:
                update = model.train_step([make_batch(images)], optimizers, (turn,))
                assert update.skipped is None or (precision == 'fp16' and update.skipped.startswith('gradient_norm'))
                made[turn] += update.skipped is None
                values = [value for name, value in update.log.items() if not name.startswith('gradient_norm')]
                assert all(torch.isfinite(value).all() for value in values)
    assert made == {'autoencoder': 2, 'discriminator': 2}
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert len(still) < len(before) / 10  # in bf16 a gradient of a bias may be 0
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_compiled_turns_are_the_eager_ones(device, images):
    torch.compiler.reset()
    images = images.to(device)
    # A CPU's compiler takes minutes for what a GPU's takes seconds: there the graphs run without it.
    options = dict(backend='aot_eager') if device.type == 'cpu' else {}
    eager, compiled = (turns(build_model(DEFAULT, small=True, compile=compile).to(device), images)
                       for compile in (None, options))
    check(compiled, eager, 'compiled')


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_losses_and_gradients_of_a_narrow_ablation_are_those_of_the_cpu(path, device, images):
    compare(path, device, images, small=True)
