import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.checkpoints.files import diffusers_kl, ldm_names
from wfvae_toolkit.checkpoints import read_model, save_training_checkpoint
from wfvae_toolkit.registry import AUTOENCODERS

CONFIG = dict(type='WFVAE2Image', latent_channels=3, widths=(8, 12), flow_width=4)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the page's commands find what they name: two runs and a photo."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(('demo', 'demo_decoder_only')):
        torch.manual_seed(seed)
        state = AUTOENCODERS.build(CONFIG).state_dict()
        (tmp_path / 'work_dirs' / name).mkdir(parents=True)
        save_training_checkpoint(
            {'meta': {'iteration': 1}, 'state_dict': {f'autoencoder.{key}': value for key, value in state.items()},
             'ema_state_dict': state}, tmp_path / 'work_dirs' / name / 'iter_1.pth', CONFIG)
    save_file(ldm_names(diffusers_kl(widths=(32, 32))), tmp_path / 'ae.safetensors')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)).save('photo.jpg')
    return tmp_path


def test_python(page, place):
    names = page('inference.md').run_python()
    assert names['image'].shape == (1, 3, 12, 16)
    assert names['decoded'].sample.shape == names['x'].shape
    with Image.open(place / 'reconstruction.png') as picture:
        assert picture.size == (13, 9)


def test_commands(page, place):
    assert page('inference.md').run_commands() == 6
    for name in ('ae.pth', 'demo.pth', 'demo_raw.pth', 'demo_earlier', 'merged.pth'):
        read_model(place / name).build()
    assert read_model(place / 'ae.pth').statistics is not None
