import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.files import diffusers_kl, ldm_names
from tests.helpers import TouchesAFile
from wfvae_toolkit.checkpoints import CheckpointError, check_writable, export_model, ldm, read_model
from wfvae_toolkit.utils.errors import SettingError

IMAGES = torch.rand(1, 3, 8, 12) * 2 - 1


def assert_computes(model, expected):
    ours = model.build()
    with torch.no_grad():
        posterior, wanted = ours.encode(IMAGES).latent_dist, expected.encode(IMAGES).latent_dist
        torch.testing.assert_close(posterior.mean, wanted.mean)
        torch.testing.assert_close(posterior.logvar, wanted.logvar)
        torch.testing.assert_close(ours.decode(wanted.mean).sample, expected.decode(wanted.mean).sample)


@pytest.mark.parametrize('settings', [
    dict(latent_channels=16, quant_conv=False), dict(widths=(32, 64, 64), layers=2), dict(latent_channels=3)])
def test_a_safetensors_file_computes_what_its_autoencoder_did(tmp_path, settings):
    expected = diffusers_kl(**settings)
    save_file(ldm_names(expected), tmp_path / 'ae.safetensors')
    model = read_model(tmp_path / 'ae.safetensors')
    assert_computes(model, expected)
    assert (model.form, model.statistics) == ('ldm', None)
    wanted = dict(latent_channels=4, widths=(32, 64), layers=1, quant_conv=True) | settings
    wanted['widths'] = list(wanted['widths'])
    assert model.config == dict(type='DiffusersAutoencoderKL', groups=32, **wanted)


@pytest.mark.parametrize('prefix', ['', 'first_stage_model.', 'vae.'])
@pytest.mark.parametrize('form', ['vae.pt', 'vae.ckpt', 'model.safetensors'])
def test_what_stands_beside_the_autoencoder_is_passed_over_and_counted(tmp_path, monkeypatch, prefix, form):
    expected = diffusers_kl()
    others = ('model.diffusion_model.out.weight', 'cond_stage_model.a') if prefix else ('loss.logvar', 'model_ema.a')
    state = {f'{prefix}{name}': value for name, value in ldm_names(expected).items()}
    state |= {name: torch.zeros(1) for name in others}
    path = tmp_path / form
    if path.suffix == '.safetensors':
        save_file(state, path)
    else:
        content = {'state_dict': state, 'epoch': 3, 'global_step': 7} if form == 'vae.ckpt' else state
        torch.save(content, path)
    said = []
    monkeypatch.setattr(ldm, 'print_log', lambda text, logger: said.append(text))
    assert_computes(read_model(path), expected)
    first = sorted({name.partition('.')[0] for name in others})
    assert len(said) == 1
    assert said[0].endswith(f'passed over: 2 weights of {", ".join(first)}')
    assert 'has no scale and shift of latents' in said[0]


def test_half_precision_files(tmp_path):
    expected = diffusers_kl()
    save_file({name: value.half() for name, value in ldm_names(expected).items()}, tmp_path / 'ae.safetensors')
    expected.load_state_dict({name: value.half().float() for name, value in expected.state_dict().items()})
    assert_computes(read_model(tmp_path / 'ae.safetensors'), expected)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    content = {'state_dict': ldm_names(diffusers_kl()), 'callbacks': TouchesAFile(tmp_path / 'trace')}
    torch.save(content, tmp_path / 'vae.ckpt')
    with pytest.raises(CheckpointError, match='refused, it holds more than tensors and plain values'):
        read_model(tmp_path / 'vae.ckpt')
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize(('change', 'message'), [
    (lambda state: state.pop('encoder.mid.attn_1.q.weight'), 'not an AutoencoderKL: no encoder.mid.attn_1.q.weight'),
    (lambda state: state.update({'encoder.down.1.attn.0.q.weight': torch.zeros(1)}), 'encoder.down.1.attn.0.q.weight'),
    (lambda state: state.update({'bn.running_mean': torch.zeros(1)}), 'bn.running_mean'),
    (lambda state: state.pop('decoder.up.0.block.1.conv1.bias'), 'decoder.up_blocks.1.resnets.1.conv1.bias'),
    (lambda state: state.update({'encoder.conv_out.weight': torch.zeros(4, 64, 3, 3)}), 'which is no mean and varia'),
    (lambda state: state.update({'encoder.conv_in.weight': torch.zeros(32, 1, 3, 3)}), 'of images with 1 channels'),
])
def test_another_architecture_is_named(tmp_path, change, message):
    state = ldm_names(diffusers_kl())
    change(state)
    save_file(state, tmp_path / 'ae.safetensors')
    with pytest.raises(CheckpointError, match=message):
        read_model(tmp_path / 'ae.safetensors').build()


def test_statistics_go_into_a_copy(tmp_path):
    expected = diffusers_kl()
    save_file(ldm_names(expected), tmp_path / 'ae.safetensors')
    model = read_model(tmp_path / 'ae.safetensors')
    with pytest.raises(SettingError, match='--to native makes a copy that has'):
        check_writable(model)
    export_model(model, tmp_path / 'ae.pth', 'native')
    check_writable(read_model(tmp_path / 'ae.pth'))
    assert_computes(read_model(tmp_path / 'ae.pth'), expected)

