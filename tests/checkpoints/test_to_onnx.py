import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import trained_small
from wfvae_toolkit.checkpoints import TrainedModel, read_model, to_onnx
from wfvae_toolkit.checkpoints.to_onnx import write_onnx
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.errors import MissingLibrary

# Those whose parts differ from the default's.
VARIETIES = {
    'db2': dict(wavelet=dict(type='DiscreteWavelet', name='db2')),
    'residual': dict(latent_channels=4, widths=(8, 16, 16), energy_flow=False, latent_shortcuts=True,
                     downsample=dict(type='ResidualDownsample'), upsample=dict(type='ResidualUpsample'),
                     channel_attention=dict(type='ECA'), output_activation=True),
    'root mean square': dict(norm=dict(type='RMSNorm2d'), wavelet=dict(type='PixelUnshuffle')),
    'fixed variance': dict(posterior=dict(type='FixedVariancePosterior', std=0.2)),
    'no variance': dict(posterior=dict(type='DeterministicPosterior'))}


def run(folder, name, tensor):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / f'{name}.onnx', providers=['CPUExecutionProvider'])
    return [torch.from_numpy(value) for value in session.run(None, {session.get_inputs()[0].name: tensor.numpy()})]


@pytest.mark.slow
def test_reference_models_are_equal_at_their_own_size(earlier_model, tmp_path):
    trained = read_model(earlier_model.write_folder(tmp_path / 'earlier'))
    write_onnx(trained, tmp_path / 'out')
    images, native = earlier_model.io['input'], trained.build()
    mean, logvar = run(tmp_path / 'out', 'encoder', images)
    with torch.no_grad():
        posterior = native.encode(images).latent_dist
        torch.testing.assert_close(mean, posterior.mean, rtol=0, atol=1e-4)
        torch.testing.assert_close(logvar, posterior.logvar, rtol=0, atol=1e-4)
        image, = run(tmp_path / 'out', 'decoder', mean)
        torch.testing.assert_close(image, native.decode(mean).sample, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('settings', VARIETIES.values(), ids=VARIETIES)
def test_every_part_exports(tmp_path, settings):
    trained = trained_small(**settings)
    write_onnx(trained, tmp_path / 'out')
    native = trained.build()
    # Smaller than the filters reach, and neither traced nor checked by the export.
    images = torch.randn(2, 3, native.downsample_factor, 2 * native.downsample_factor)
    with torch.no_grad():
        posterior = native.encode(images).latent_dist
        for found, expected in zip(run(tmp_path / 'out', 'encoder', images), posterior.tensors, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        image, = run(tmp_path / 'out', 'decoder', posterior.mean)
        torch.testing.assert_close(image, native.decode(posterior.mean).sample, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_files_beside_the_graphs(tmp_path):
    write_onnx(trained_small(statistics=LatentStatistics((0.0, 1.0, 2.0), (1.0, 2.0, 3.0))), tmp_path / 'out')
    assert json.loads((tmp_path / 'out/config.json').read_text()) == dict(
        downsample_factor=4, latent_channels=3, posterior=dict(type='GaussianPosterior'), latents_mean=[0, 1, 2],
        latents_std=[1, 2, 3], largest_activations=None)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['config.json', 'decoder.onnx', 'encoder.onnx']
    native = trained_small().build()
    with torch.no_grad():
        native.decoder.conv_out.bias += 1e-3
    with pytest.raises(RuntimeError, match='image differs by 0.0'):
        to_onnx._compare(native, tmp_path / 'out')


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, package):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        monkeypatch.setitem(sys.modules, name, np)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingLibrary, match=rf"{package} is not installed: pip install 'wfvae_toolkit\[onnx\]'"):
        write_onnx(trained_small(), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_other_autoencoders_are_refused(tmp_path):
    trained = TrainedModel(dict(type='DiffusersAutoencoderKL'), {}, None, Path('run'), 'native', 'ema')
    with pytest.raises(ValueError, match='--to onnx takes only WFVAE2Image'):
        write_onnx(trained, tmp_path / 'out')
