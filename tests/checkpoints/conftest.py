"""Models of the earlier implementation as the files that its users have."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

DATA = Path(__file__).resolve().parents[1] / 'data'
CLASSES = {'layernorm_small': 'WFVAE2ImageModel', 'groupnorm_small': 'WFVAE2ImageModel',
           'residual_32x_small': 'WFIVAE2Model'}


class EarlierModel:
    """Settings, weights and reference numbers of one small model, and writers of its earlier forms."""

    def __init__(self, name):
        self.name, self.class_name = name, CLASSES[name]
        self.settings = json.loads((DATA / f'{name}.json').read_text(encoding='utf-8'))['config']
        self.weights = load_file(DATA / f'{name}.weights.safetensors')
        self.io = load_file(DATA / f'{name}.io.safetensors')

    def write_settings(self, folder, **changes):
        folder.mkdir(exist_ok=True)
        settings = {'_class_name': self.class_name, **self.settings, **changes}
        text = json.dumps({key: value for key, value in settings.items() if value is not ...})
        (folder / 'config.json').write_text(text, encoding='utf-8')

    def write_folder(self, folder, **changes):
        self.write_settings(folder, **changes)
        save_file(self.weights, folder / 'diffusion_pytorch_model.safetensors')
        return folder

    def write_checkpoint(self, folder, prefix='', frozen_encoder=False, **parts):
        """checkpoint-10.ckpt whose average is the reference and whose raw weights are one higher."""
        self.write_settings(folder, _class_name=...)
        raw = {key: value + 1 for key, value in self.weights.items()}
        averaged = {prefix + key: value for key, value in self.weights.items() if 'wavelet_transform' not in key}
        if frozen_encoder:
            raw |= {key: value for key, value in self.weights.items() if key.startswith('encoder.')}
            averaged = {key: value for key, value in averaged.items() if key.startswith(f'{prefix}decoder.')}
        content = {'state_dict': {'gen_model': raw, 'disc_model': {'logvar': torch.zeros(())}},
                   'ema_state_dict': averaged, 'epoch': 1, 'current_step': 10, 'scaler_state': {'scale': 65536.0},
                   'sampler_state': {'seed': 1, 'generator': torch.get_rng_state()},
                   'optimizer_state': {'gen_optimizer': {'state': {0: {'step': torch.tensor(3.)}}}}, **parts}
        torch.save({key: value for key, value in content.items() if value is not ...}, folder / 'checkpoint-10.ckpt')
        return folder / 'checkpoint-10.ckpt'

    def check(self, autoencoder):
        """Equality with what the earlier implementation computed."""
        with torch.no_grad():
            encoded = autoencoder.encode(self.io['input'])
            found = dict(mean=encoded.latent_dist.mean, logvar=encoded.latent_dist.logvar,
                         recon=autoencoder.decode(encoded.latent_dist.mode()).sample)
        for name, value in found.items():
            assert (value - self.io[name]).abs().max() <= 1e-5 * self.io[name].abs().max(), name


@pytest.fixture(params=list(CLASSES))
def earlier_model(request):
    return EarlierModel(request.param)


@pytest.fixture
def make_earlier_model():
    """'layernorm_small' -> EarlierModel."""
    return EarlierModel
