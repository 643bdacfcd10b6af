import sys

import pytest
import torch

from tests.helpers import save_small_run
from wfvae_toolkit.checkpoints import read_model, write_statistics
from wfvae_toolkit.models.latent_statistics import LatentStatistics


@pytest.fixture
def run(tmp_path):
    return save_small_run(tmp_path / 'run')


@pytest.mark.parametrize(('form', 'name'), [('native', 'out/a.pth'), ('earlier', 'out/a'), ('diffusers', 'out/a')])
@pytest.mark.parametrize('weights', ['ema', 'raw'])
def test_convert(tool, run, tmp_path, capsys, form, name, weights):
    output = tmp_path / name
    tool('convert')(run, output, '--to', form, '--weights', weights)
    expected = read_model(run, weights).state
    assert all(torch.equal(value, expected[key]) for key, value in read_model(output).state.items())
    assert str(output) in capsys.readouterr().out
    with pytest.raises(SystemExit, match='^error: .* exists; --force replaces it$'):
        tool('convert')(run, output, '--to', form)
    tool('convert')(run, output, '--to', form, '--force')


@pytest.mark.parametrize(('arguments', 'message'), [
    (('nowhere', 'a.pth', '--to', 'native'), 'nowhere: no such file or folder'),
    (('run', 'a.pth', '--to', 'onnx9'), '--to onnx9: use one of native, earlier')])
def test_errors_are_one_line(tool, run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'^error: {message}') as exit_:
        tool('convert')(*arguments)
    assert len(exit_.value.code.splitlines()) == 1


def test_a_tilde_is_the_home_of_the_user(tool, run, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    tool('convert')('~/run', '~/a.pth', '--to', 'native')
    assert (tmp_path / 'a.pth').is_file()


def test_options_of_one_form_are_refused_for_another(tool, run, tmp_path):
    scalar = ('--latent-statistics', 'scalar')
    with pytest.raises(SystemExit, match='^error: --to native has no latent_statistics$'):
        tool('convert')(run, tmp_path / 'a.pth', '--to', 'native', *scalar)
    write_statistics(read_model(run), LatentStatistics((0.5, -1.0, 2.0), (1.0, 2.0, 0.25)))
    tool('convert')(run, tmp_path / 'a', '--to', 'diffusers', *scalar)
    assert len(set(read_model(tmp_path / 'a').statistics.std)) == 1


def test_latents_that_were_never_measured_are_said_and_have_no_statistics_to_choose(tool, run, tmp_path, capsys):
    with pytest.raises(SystemExit, match='has no latent statistics to write: run tools/measure_latents.py first'):
        tool('convert')(run, tmp_path / 'a', '--to', 'diffusers', '--latent-statistics', 'scalar')
    assert not (tmp_path / 'a').exists()
    tool('convert')(run, tmp_path / 'a', '--to', 'diffusers')
    assert 'latents were never measured, and stay raw (scale 1, shift 0)' in capsys.readouterr().out


@pytest.mark.slow
def test_commands_of_the_export_page(launch, run, tmp_path, request):
    page = (request.config.rootpath / 'docs/export.md').read_text(encoding='utf-8')
    commands = [line for line in page.splitlines() if line.startswith('python tools/convert.py')]
    assert len(commands) == 3
    for command in commands:
        _, path, *arguments = command.replace('MODEL', str(run)).split()
        launch(sys.executable, request.config.rootpath / path, *arguments, cwd=tmp_path)
    blocks = [block.partition('```')[0] for block in page.split('```python\n')[1:3]]
    lead = 'import torch\nimages = torch.zeros(1, 3, 16, 24)\n'
    launch(sys.executable, '-c', lead + blocks[1] + 'assert images.shape == (1, 3, 16, 24)', cwd=tmp_path)
    launch(sys.executable, '-c', 'import sys\nsys.modules["torchvision"] = None\n' + blocks[0], cwd=tmp_path,
           env={'PYTHONPATH': '', 'HF_MODULES_CACHE': str(tmp_path / 'cache')})
    last = page.split('```python\n')[-1].partition('```')[0] + 'assert images.shape == (1, 3, 64, 96)'
    launch(sys.executable, '-c', 'import sys\nsys.modules["wfvae_toolkit"] = None\n' + last, cwd=tmp_path,
           env={'PYTHONPATH': ''})


def test_merge(tool, run, tmp_path, capsys):
    tool('convert')(run, tmp_path / 'raw.pth', '--to', 'native', '--weights', 'raw')
    output = tmp_path / 'merged.pth'
    tool('merge')('--encoder', run, '--decoder', tmp_path / 'raw.pth', output)
    assert f'decoder of {tmp_path}/raw.pth -> {output}' in capsys.readouterr().out
    state, averaged, raw = read_model(output).state, read_model(run).state, read_model(run, 'raw').state
    for name, value in state.items():
        assert torch.equal(value, (averaged if name.startswith('encoder.') else raw)[name])
    with pytest.raises(SystemExit, match='^error: .* exists; --force replaces it$'):
        tool('merge')('--encoder', run, '--decoder', run, output)
