"""Fixtures that several test files share; --import-mode=importlib lets them import nothing from each other."""

import copy
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

# One thread a process, set before torch is imported: the tests' networks are so small that threads wait more than they
# work. A process that a test starts has as many, and so sums in the same order. `make test-kernels` sets more.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import load_module
from wfvae_toolkit.checkpoints import convert_earlier_state, save_training_checkpoint
from wfvae_toolkit.datasets.loader import Batch
from wfvae_toolkit.losses import DiscriminatorStep, Step
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.training import AutoencoderTraining, TurnOptimizers

# Above the number of cores torch takes as many only when it is told.
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
pytest.register_assert_rewrite('run_files', 'tests.training.helpers')
DATA = Path(__file__).parent / 'data'
ROOT = Path(__file__).resolve().parents[1]


class Reference:
    """Numbers of the earlier implementation on one small model, and our configs and weights for the same model."""

    def __init__(self, name):
        self.numbers = json.loads((DATA / f'{name}.json').read_text(encoding='utf-8'))
        self.io = load_file(DATA / f'{name}.io.safetensors')
        self.earlier_weights = load_file(DATA / f'{name}.weights.safetensors')
        self.earlier_discriminator = load_file(DATA / f'{name}.disc.safetensors')
        self.weights = convert_earlier_state(self.earlier_weights, 'autoencoder')
        config, loss = self.numbers['config'], self.numbers['loss']
        self.autoencoder = dict(
            type='WFVAE2Image', latent_channels=config['latent_dim'], widths=config['base_channels'],
            encoder_layers=config['encoder_num_resblocks'], decoder_layers=config['decoder_num_resblocks'],
            flow_width=config['encoder_energy_flow_size'], decoder_flow_width=config['decoder_energy_flow_size'],
            norm=dict(type={'layernorm': 'LayerNorm2d', 'groupnorm': 'GroupNorm'}[config['norm_type']]))
        self.discriminator = dict(type='PatchDiscriminator', num_layers=loss['disc_num_layers'])
        self.losses = dict(
            pixel=dict(type='L1Loss'), kl=dict(type='KLLoss', weight=loss['kl_weight']),
            wavelet=dict(type='WaveletFlowLoss', weight=loss['wavelet_weight']),
            adversarial=dict(type='AdversarialLoss', weight=loss['disc_weight'], balance=('pixel',)))

    def training_model(self):
        model = AutoencoderTraining(self.autoencoder, self.losses, self.discriminator)
        model.autoencoder.load_state_dict(self.weights)
        model.discriminator.load_state_dict(convert_earlier_state(self.earlier_discriminator, 'discriminator'))
        return model.train()


@pytest.fixture(scope='session', params=['layernorm_small', 'groupnorm_small'])
def reference(request):
    return Reference(request.param)


@pytest.fixture
def make_images():
    """(count, 3, height, width) in [-1, 1], smooth enough to be picture-like."""
    def make(count=2, height=24, width=32, seed=0):
        coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        return torch.nn.functional.interpolate(coarse, (height, width), mode='bilinear') * 2 - 1
    return make


@pytest.fixture
def make_model():
    """A training model with a 4x autoencoder of few thousand parameters; keyword arguments over its config."""
    def make(seed=0, autoencoder=None, **settings):
        torch.manual_seed(seed)
        config = dict(
            autoencoder={**dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12), flow_width=4),
                         **(autoencoder or {})},
            discriminator=dict(type='PatchDiscriminator', num_layers=1, width=8),
            losses=dict(pixel=dict(type='L1Loss'), kl=dict(type='KLLoss', weight=1e-3),
                        wavelet=dict(type='WaveletFlowLoss', weight=0.1),
                        adversarial=dict(type='AdversarialLoss', weight=0.5, balance=('pixel',))))
        return AutoencoderTraining(**{**config, **settings}).train()
    return make


@pytest.fixture
def training_checkpoint(make_model, tmp_path):
    """A folder with iter_7.pth, whose averaged autoencoder is the raw one plus 1; and what that file holds."""
    model = make_model(seed=3)
    ema = {name: value + 1 for name, value in model.autoencoder.state_dict().items()}
    content = {'meta': {'iteration': 7}, 'state_dict': model.state_dict(), 'ema_state_dict': ema,
               'optimizers': {'autoencoder': {'a': 1}, 'discriminator': {'d': 1}}}
    save_training_checkpoint(copy.deepcopy(content), tmp_path / 'iter_7.pth', model.autoencoder_config)
    return tmp_path, content


@pytest.fixture
def overflow_float16():
    """Make an autoencoder's residual streams, at the latent's size in ``halves``, too large for float16 alone."""
    def spoil(autoencoder, halves=('encoder', 'decoder')):
        with torch.no_grad():
            for half in halves:
                for parameter in getattr(autoencoder, half).conv_in.parameters():
                    parameter.clamp_(-0.2, 0.2).mul_(3e5)  # below 65504 themselves
        return autoencoder
    return spoil


@pytest.fixture
def make_optimizers():
    """Plain SGD for both turns: an update is the gradient times the rate."""
    def make(model, lr=1e-3, **options):
        row = dict(optimizer=dict(type='SGD', lr=lr), **options)
        return TurnOptimizers(dict(constructor='TurnOptimizers', autoencoder=row, discriminator=row))(model)
    return make


@pytest.fixture
def make_batch():
    """What the loader gives for images in [-1, 1]; sample i has seed ``first_seed + i``."""
    def make(images, first_seed=0):
        numbers = list(range(first_seed, first_seed + len(images)))
        return Batch(((images + 1) * 127.5).round().to(torch.uint8), [f'{i}.png' for i in numbers], numbers, numbers,
                     numbers, bad=[], upsampled=0)
    return make


@pytest.fixture
def make_step():
    """A Step of zeros, (2, 3, 4, 4) images and (2, 2, 1, 1) latents; keyword arguments replace fields."""
    def make(**fields):
        zeros = torch.zeros(2, 2, 1, 1)
        return Step(**{**dict(target=torch.zeros(2, 3, 4, 4), reconstruction=torch.zeros(2, 3, 4, 4),
                              latent_dist=DiagonalGaussian(zeros, zeros), latents=zeros), **fields})
    return make


@pytest.fixture
def judged():
    """Scores of real images and of reconstructions -> a DiscriminatorStep of images of zeros."""
    def make(real_scores, fake_scores, discriminator=None):
        images = torch.zeros(2, 3, 4, 4)
        return DiscriminatorStep(images, images, real_scores, fake_scores, discriminator)
    return make


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """A folder with ``train`` (9) and ``val`` (3): real photographs of 32 px."""
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp('photos')
    picture = data.astronaut()[::4, ::4]  # 128 px
    for number in range(12):
        top, left = 32 * (number // 4), 32 * (number % 4)
        path = folder / ('val' if number % 4 == 1 else 'train') / f'{number:02}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture[top:top + 32, left:left + 32]).save(path)
    return folder


@pytest.fixture(scope='session', autouse=True)
def no_downloads():
    """Weights that are not here stay missing, with a network or without."""
    def refuse(url, *arguments, **options):
        raise OSError(f'tests download nothing: {url}')

    former, torch.hub.download_url_to_file = torch.hub.download_url_to_file, refuse
    yield
    torch.hub.download_url_to_file = former


@pytest.fixture(scope='session')
def tool():
    """'train' -> main() of tools/train.py, called in this process with a list of arguments."""
    def find(name):
        module = load_module(ROOT / 'tools' / f'{name}.py')
        return lambda *arguments: module.main([str(argument) for argument in arguments])
    return find


@pytest.fixture(scope='session')
def train(tool, photos):
    """Trains ``config``, a name in tests/data/configs or a path, in this process; options by dotted key."""
    main, numbers = tool('train'), itertools.count()

    def run(config, work_dir, *arguments, **options):
        config = config if os.sep in str(config) else DATA / 'configs' / f'{config}.py'
        options = {'train_dataloader.dataset.data_root': photos / 'train',
                   'val_dataloader.dataset.data_root': photos / 'val',
                   # Runs that start in one second would share MMEngine's logger.
                   'experiment_name': f'test_{next(numbers)}', **options}
        main(config, '--work-dir', work_dir, *arguments,
             '--cfg-options', *(f'{key}={value}' for key, value in options.items()))
        return work_dir
    return run


@pytest.fixture(scope='module')
def trained(train, tmp_path_factory):
    """A run's folder with iter_2."""
    return train('tiny', tmp_path_factory.mktemp('run'), **{
        'train_cfg.max_iters': 2, 'default_hooks.checkpoint.interval': 2, 'default_hooks.curves': None,
        'default_hooks.pictures': None, 'train_cfg.val_interval': 2})


@pytest.fixture(scope='session')
def launch():
    """Runs a command from the checkout, or ``cwd``, with tests/data/plugins importable; returns its CompletedProcess.

    ``env`` is merged over the environment; its PYTHONPATH replaces the checkout's.
    """
    def run(*command, check=True, cwd=ROOT, env=None):
        environment = {**os.environ, 'PYTHON': sys.executable,
                       'PYTHONPATH': os.pathsep.join(map(str, [ROOT, DATA / 'plugins'])), **(env or {})}
        done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True,
                              text=True, timeout=600, check=False)
        assert not check or done.returncode == 0, f'{done.stdout[-3000:]}\n{done.stderr[-5000:]}'
        return done
    return run
