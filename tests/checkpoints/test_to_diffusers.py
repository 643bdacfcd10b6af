import json
from pathlib import Path

import pytest
import torch

from tests.helpers import trained_small
from wfvae_toolkit import AutoencoderWFVAE2
from wfvae_toolkit.checkpoints import CheckpointError, TrainedModel, read_model, to_diffusers
from wfvae_toolkit.checkpoints.to_diffusers import write_diffusers
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.models.wavelets import Haar
from wfvae_toolkit.registry import WAVELETS

STATISTICS = LatentStatistics((0.5, -1.0, 2.0), (1.0, 2.0, 0.25))


def test_reference_models_give_the_numbers_of_the_earlier_implementation(earlier_model, tmp_path):
    trained = read_model(earlier_model.write_folder(tmp_path / 'earlier'))
    write_diffusers(trained, tmp_path / 'out')
    vae, native = AutoencoderWFVAE2.from_pretrained(tmp_path / 'out'), trained.build()
    earlier_model.check(vae)
    with torch.no_grad():
        posterior, expected = (model.encode(earlier_model.io['input']).latent_dist for model in (vae, native))
        assert torch.equal(posterior.mean, expected.mean)
        assert torch.equal(vae.decode(posterior.mean).sample, native.decode(expected.mean).sample)


@pytest.mark.parametrize('kind', ['channels', 'scalar'])
def test_a_pipeline_can_normalise_with_what_is_written(tmp_path, kind):
    write_diffusers(trained_small(statistics=STATISTICS), tmp_path / 'out', kind)
    config = AutoencoderWFVAE2.load_config(tmp_path / 'out')
    raw = torch.randn(100_000, 3, 1, 1, dtype=torch.float64)
    raw = raw * torch.tensor(STATISTICS.std).view(3, 1, 1) + torch.tensor(STATISTICS.mean).view(3, 1, 1)
    mean, std = (torch.tensor(config[name] or [neutral] * 3, dtype=torch.float64).view(3, 1, 1)
                 for name, neutral in (('latents_mean', 0), ('latents_std', 1)))
    normalised = ((raw - mean) / std - config['shift_factor']) * config['scaling_factor']
    if kind == 'channels':
        torch.testing.assert_close(normalised, STATISTICS.normalize(raw))
        assert (config['scaling_factor'], config['shift_factor']) == (1, 0)
    else:
        assert normalised.mean().item() == pytest.approx(0, abs=0.02)
        assert normalised.std().item() == pytest.approx(1, abs=0.02)
        assert config['latents_mean'] is None


def test_without_statistics_latents_stay_raw(tmp_path):
    write_diffusers(trained_small(), tmp_path / 'out')
    config = AutoencoderWFVAE2.load_config(tmp_path / 'out')
    assert [config[name] for name in ('scaling_factor', 'shift_factor', 'latents_mean', 'latents_std')] == [
        1, 0, None, None]


@pytest.mark.parametrize('statistics', [None, STATISTICS])
def test_the_folder_is_a_model_again(tmp_path, statistics):
    trained = trained_small(statistics=statistics, checkpoint_activations=True,
                            wavelet=dict(type='DiscreteWavelet', name='bior4.4'))
    paths = write_diffusers(trained, tmp_path / 'out')
    assert sorted(path.name for path in paths) == ['README.md', 'config.json',
                                                   'diffusion_pytorch_model.safetensors', 'modelling_wfvae2.py']
    again = read_model(tmp_path / 'out')
    assert again.statistics == statistics
    images, latents = to_diffusers.example(trained.build())
    with torch.no_grad():
        for first, second in zip(*((model.encode(images).latent_dist.mean, model.decode(latents).sample)
                                   for model in (trained.build(), again.build())), strict=True):
            assert torch.equal(first, second)


def test_half_rounds_the_weights_and_halves_the_file(tmp_path):
    trained = trained_small()
    sizes = []
    for half in (False, True):
        write_diffusers(trained, tmp_path / str(half), half=half)
        sizes.append((tmp_path / str(half) / 'diffusion_pytorch_model.safetensors').stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    for name, value in read_model(tmp_path / 'True').build().state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, trained.state[name].half().float())
    name = next(iter(trained.state))
    trained.state[name] = torch.full_like(trained.state[name], 1e5)
    with pytest.raises(CheckpointError, match=f'{name} holds 100000, float16 ends at 65504'):
        write_diffusers(trained, tmp_path / 'large', half=True)
    assert not (tmp_path / 'large').exists()


def test_what_cannot_travel_is_named_and_nothing_is_written(tmp_path):
    class Foreign(Haar):
        pass

    WAVELETS.register_module(module=Foreign)
    try:
        with pytest.raises(ValueError, match='Foreign: a plug-in registers it'):
            write_diffusers(trained_small(wavelet=dict(type='Foreign')), tmp_path / 'out')
    finally:
        WAVELETS.module_dict.pop('Foreign')
    trained = TrainedModel(dict(type='DiffusersAutoencoderKL'), {}, None, Path('run'), 'native', 'ema')
    with pytest.raises(ValueError, match='run: a DiffusersAutoencoderKL; --to diffusers takes only WFVAE2Image'):
        write_diffusers(trained, tmp_path / 'out')
    with pytest.raises(ValueError, match="latent_statistics='folded': use one of channels, scalar"):
        write_diffusers(trained_small(), tmp_path / 'out', 'folded')
    assert not (tmp_path / 'out').exists()


def test_an_export_that_computes_something_else_is_an_error(tmp_path, monkeypatch):
    decode = AutoencoderWFVAE2.decode
    monkeypatch.setattr(AutoencoderWFVAE2, 'decode', lambda self, z: decode(self, z * 1.001))
    with pytest.raises(RuntimeError, match='its images differ from those of the model by up to'):
        write_diffusers(trained_small(), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_settings_are_plain_json(tmp_path):
    write_diffusers(trained_small(statistics=STATISTICS), tmp_path / 'out')
    settings = json.loads((tmp_path / 'out/config.json').read_text())
    assert settings['_class_name'] == 'AutoencoderWFVAE2'
    assert settings['auto_map'] == {'AutoModel': 'modelling_wfvae2.AutoencoderWFVAE2'}
    assert 'checkpoint_activations' not in settings


@pytest.mark.parametrize('kind', ['channels', 'scalar'])
def test_statistics_that_were_never_measured_cannot_be_asked_for(tmp_path, kind):
    with pytest.raises(ValueError, match='run has no latent statistics to write: run tools/measure_latents.py first'):
        write_diffusers(trained_small(), tmp_path / 'out', kind)
    assert not (tmp_path / 'out').exists()
