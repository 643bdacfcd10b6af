import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.checkpoints.test_to_onnx import VARIETIES
from tests.helpers import save_small_run, trained_small
from wfvae_toolkit.checkpoints import CheckpointError, TrainedModel, to_torch_export
from wfvae_toolkit.checkpoints.halves import make_halves
from wfvae_toolkit.checkpoints.to_torch_export import write_aot_inductor, write_torch_export
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.registry import MID_BLOCKS

# A process that has torch alone; {load} is one of LOADERS.
STRANGER = '''
import sys
sys.modules['wfvae_toolkit'] = None
import torch
encoder, decoder = ({load} for name in ('encoder', 'decoder'))
refused = []
with torch.inference_mode():
    found = [[*encoder(images), decoder(latents)] for images, latents in torch.load('given.pt')]
    for name, wrong in dict(channels=torch.zeros(1, 4, 8, 8), layout=torch.zeros(1, 8, 8, 3).permute(0, 3, 1, 2),
                            height=torch.zeros(1, 3, 10, 8)).items():
        try:
            encoder(wrong)
        except (AssertionError, RuntimeError):
            refused.append(name)
torch.save([found, refused], 'found.pt')
'''
LOADERS = {'torch_export': "torch.export.load(f'out/{name}.pt2').module()",
           'aot_inductor': "torch._inductor.aoti_load_package(f'out/{name}.pt2')"}
WRITERS = {'torch_export': write_torch_export, 'aot_inductor': write_aot_inductor}


def results_of(autoencoder, images, latents):
    with torch.inference_mode():
        return [*autoencoder.encode(images).latent_dist.tensors, autoencoder.decode(latents).sample]


@pytest.mark.slow
@pytest.mark.parametrize('form', LOADERS)
def test_a_process_without_the_toolkit_gets_the_models_results(launch, tmp_path, form):
    trained = trained_small(statistics=LatentStatistics((0.0, 1.0, 2.0), (1.0, 2.0, 3.0)))
    paths = WRITERS[form](trained, tmp_path / 'out')
    assert [path.name for path in paths] == ['config.json', 'decoder.pt2', 'encoder.pt2']
    assert set(paths) == set((tmp_path / 'out').iterdir())
    assert json.loads((tmp_path / 'out/config.json').read_text()) == dict(
        downsample_factor=4, latent_channels=3, posterior=dict(type='GaussianPosterior'), latents_mean=[0, 1, 2],
        latents_std=[1, 2, 3], largest_activations=None, torch_version=torch.__version__)
    native = trained.build()
    # Sizes that are neither traced nor compared by the export.
    given = [(torch.randn(batch, 3, 4 * rows, 4 * columns), torch.randn(batch, 3, rows, columns))
             for batch, rows, columns in ((1, 2, 9), (5, 6, 2))]
    torch.save(given, tmp_path / 'given.pt')
    launch(sys.executable, '-c', STRANGER.replace('{load}', LOADERS[form]), cwd=tmp_path,
           env={'PYTHONPATH': '', 'AOTI_RUNTIME_CHECK_INPUTS': '1'})
    found, refused = torch.load(tmp_path / 'found.pt')
    for inputs, outputs in zip(given, found, strict=True):
        for one, other in zip(outputs, results_of(native, *inputs), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    assert refused == {'torch_export': ['channels', 'height'], 'aot_inductor': ['channels', 'layout']}[form]


@pytest.mark.slow
@pytest.mark.parametrize('names', [('db2', 'no variance'), ('residual', 'root mean square')], ids=' and '.join)
def test_every_part_exports(tmp_path, names):
    trained = trained_small(**{key: value for name in names for key, value in VARIETIES[name].items()})
    write_torch_export(trained, tmp_path / 'out')
    native = trained.build()
    factor = native.downsample_factor
    images, latents = torch.randn(2, 3, 2 * factor, 6 * factor), torch.randn(2, native.latent_channels, 1, 1)
    encoder, decoder = (torch.export.load(tmp_path / f'out/{name}.pt2').module() for name in ('encoder', 'decoder'))
    for given in (images, images.to(memory_format=torch.channels_last)):
        for one, other in zip([*encoder(given), decoder(latents)], results_of(native, images, latents), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


class Scalar(nn.Module):
    """A part whose result depends on a number that no tracer knows."""

    def __init__(self, channels, norm):
        super().__init__()

    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x


class Array(nn.Module):
    """A part that leaves torch."""

    def __init__(self, channels, norm):
        super().__init__()

    def forward(self, x):
        return x * float(x.detach().numpy().mean())


@pytest.mark.slow
@pytest.mark.parametrize('part', [Scalar, Array])
def test_a_part_that_cannot_be_exported_is_named(tmp_path, monkeypatch, part):
    monkeypatch.setitem(MID_BLOCKS.module_dict, part.__name__, part)
    message = rf'^encoder\.mid\.0 \({part.__name__}\) cannot be exported by torch\.export: '
    with pytest.raises(CheckpointError, match=message) as caught:
        write_torch_export(trained_small(mid_blocks=[dict(type=part.__name__)]), tmp_path / 'out')
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_a_refusal_of_the_loaded_program_is_an_error_of_one_line():
    def refuse(tensor):
        assert tensor.shape[0] == 2, 'Guard failed: two images\nand more'

    with pytest.raises(CheckpointError, match=r'^the written encoder refuses \(1, 3\): Guard failed: two images$'):
        to_torch_export._runner(refuse, Path('out/encoder.pt2'))(torch.zeros(1, 3))


def test_other_results_of_the_loaded_program_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(to_torch_export, '_trace', lambda half: half)
    trained = trained_small()
    networks = {half.name: half.network for half in make_halves(trained.build())}

    def write(change):
        def load(path):
            return lambda tensor: change(networks[path.stem](tensor)) if path.stem == 'decoder' else networks[
                path.stem](tensor)

        return to_torch_export._write(trained, tmp_path / 'out', lambda program, path: path.touch(), load)

    with pytest.raises(CheckpointError, match='image differs by 0.001'):
        write(lambda image: image + 1e-3)
    assert not (tmp_path / 'out').exists()
    assert all(path.is_file() for path in write(lambda image: image))


@pytest.mark.slow
def test_without_a_compiler_one_sentence_says_so(launch, tmp_path, request):
    # In a process of its own, because torch remembers the compiler that it found.
    done = launch(sys.executable, request.config.rootpath / 'tools/convert.py', save_small_run(tmp_path / 'run'),
                  tmp_path / 'out', '--to', 'aot_inductor', check=False, env={'PATH': str(tmp_path), 'CXX': 'g++'})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'error: --to aot_inductor needs a C++ compiler, and none was found: install g++, or name one in the '
        'environment variable CXX')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('form', WRITERS)
def test_other_autoencoders_are_refused(tmp_path, form):
    trained = TrainedModel(dict(type='DiffusersAutoencoderKL'), {}, None, Path('run'), 'native', 'ema')
    with pytest.raises(ValueError, match=f'--to {form} takes only WFVAE2Image'):
        WRITERS[form](trained, tmp_path / 'out')
