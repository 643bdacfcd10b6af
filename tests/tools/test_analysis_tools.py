import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.visualization.records import RecordWriter

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))

# Runs a tool as a command would, then says on stderr which heavy packages it has loaded.
WATCH = ('import atexit, runpy, sys\n'
         'heavy = {"torch", "mmengine", "torchvision", "matplotlib"}\n'
         'atexit.register(lambda: print("loaded:", *sorted(heavy & set(sys.modules)), file=sys.stderr))\n'
         'sys.argv = sys.argv[1:]\n'
         'runpy.run_path(sys.argv[0], run_name="__main__")')


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.relative_to(ROOT / 'tools').as_posix())
def test_help_waits_for_no_heavy_package(launch, path):
    done = launch(sys.executable, '-c', WATCH, path, '--help')
    assert done.stdout.startswith(f'usage: {path.name}')
    assert done.stderr.strip() == 'loaded:'


def test_watch_would_see_torch(launch):
    done = launch(sys.executable, '-c', WATCH, 'tools/train.py', 'nowhere.py', check=False)
    assert 'torch' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_launchers_say_how_they_are_called(launch, script):
    done = launch(f'tools/{script}', check=False)
    assert done.returncode == 2
    assert done.stderr.startswith('usage: ')


@pytest.mark.parametrize('count', ['0', 'two', '-1'])
def test_launcher_refuses_a_number_of_processes_that_is_none(launch, count):
    done = launch('tools/dist_train.sh', 'wfvae_toolkit::wfvae2_demo.py', count, check=False)
    assert done.returncode == 2
    assert f"N is '{count}': a number of processes from 1 is needed" in done.stderr


def test_print_config_prints_what_loads_again(tool, capsys):
    tool('analysis_tools/print_config')('wfvae_toolkit::wfvae2_demo.py', '--cfg-options', 'train_cfg.max_iters=7',
                                        'model.losses.wavelet=None')
    printed = Config.fromstring(capsys.readouterr().out, '.py')
    assert (printed.train_cfg.max_iters, printed.model.losses.wavelet) == (7, None)
    assert printed.model.losses.perceptual.type == 'STLPIPSLoss'  # its own
    assert printed.optim_wrapper.autoencoder.optimizer.type == 'AdamW'  # inherited


@pytest.mark.parametrize('name', ['analysis_tools/print_config', 'analysis_tools/model_summary'])
def test_unknown_config_is_one_line(tool, name):
    with pytest.raises(SystemExit, match='^error: wfvae_toolkit ships no config nowhere.py; there are: .*wfvae2_1024'):
        tool(name)('wfvae_toolkit::nowhere.py')


def test_model_summary_counts_wfvae2_1024(tool, capsys):
    """Against the earlier implementation's 64.6 and 130.3 GFLOP; doubling and its convolution in one save 21.5."""
    tool('analysis_tools/model_summary')('wfvae_toolkit::wfvae2_1024.py', '--size', '256')
    lines = capsys.readouterr().out.splitlines()
    assert '256x256 px, one image: encoder 64.6 GFLOP, decoder 108.9 GFLOP' in lines
    assert 'latent 8x32x32 (f8), 24 image values a latent value' in lines
    counts = {name: int(count.replace(',', '')) for name, count in (
        line.split() for line in lines[1:lines.index('')])}
    for network in ('encoder', 'decoder', 'discriminator'):
        parts = [count for name, count in counts.items() if name.startswith(f'{network}.')]
        assert sum(parts) == counts[network]
    assert {name: counts[name] for name in ('encoder', 'decoder', 'discriminator')} == {
        'encoder': 18_336_016, 'decoder': 25_774_500, 'discriminator': 6_959_553}


def test_list_parts_prints_and_writes_the_same(tool, capsys, tmp_path):
    tool('analysis_tools/list_parts')('--registry', 'NORM_LAYERS', '--json', tmp_path / 'parts.json')
    printed = capsys.readouterr().out
    names = [part['name'] for part in json.loads((tmp_path / 'parts.json').read_text())]
    assert {'GroupNorm', 'LayerNorm2d'} <= set(names)
    assert all(f'  {name} ' in printed for name in names)


def test_list_parts_imports_what_it_is_told(tool, capsys):
    with pytest.raises(SystemExit, match='^error: --import no_such_module: No module named'):
        tool('analysis_tools/list_parts')('--import', 'no_such_module')


def test_plot_log_draws_a_panel_a_name(tool, capsys, tmp_path):
    for name, psnr in (('one', 20.0), ('two', 30.0)):
        (tmp_path / name).mkdir()
        for iteration in (1, 2):
            RecordWriter(tmp_path / name).write('val', {'iteration': iteration, 'PSNR': psnr, 'SSIM': 0.5})
    sizes = {}
    for names in (['PSNR'], ['PSNR', 'SSIM']):
        tool('analysis_tools/plot_log')(tmp_path / 'one', tmp_path / 'two', '--output', tmp_path / 'runs.png',
                                        '--names', *names)
        with Image.open(tmp_path / 'runs.png') as picture:
            sizes[len(names)] = picture.size
    assert sizes[2][1] > sizes[1][1]
    assert 'val/PSNR, val/SSIM' in capsys.readouterr().out
    with pytest.raises(SystemExit, match="^error: no run has logged 'x'; there are: val/PSNR, val/SSIM"):
        tool('analysis_tools/plot_log')(tmp_path / 'one', '--names', 'x')


def test_linear_code_scores_the_code_and_writes_weights_that_begin_there(tool, tmp_path, capsys):
    made_up = {f'{part}_dataloader.dataset': f"dict(type='SyntheticImages', size=64, length={length}, seed={length})"
               for part, length in (('train', 12), ('val', 3))}
    tool('analysis_tools/linear_code')(
        'wfvae_toolkit::wfvae2_demo.py', '--start', tmp_path / 'start.pth', '--cfg-options',
        'model.autoencoder.latent_shortcuts=True',
        *(f'{key}={value}' for key, value in made_up.items()))
    linear, begin = (float(line.split(': ')[1].split(' dB')[0]) for line in capsys.readouterr().out.splitlines()[:2])
    assert begin > linear - 1
    assert read_model(tmp_path / 'start.pth').build().encoder.latent_shortcuts
