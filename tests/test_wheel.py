"""The wheel alone, far from the checkout."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def installed(launch, tmp_path_factory):
    """Folder with the wheel's content, as pip installs it."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'  # a build leaves files where it works
    launch('bash', '-c', f'mkdir {source} && cp -r wfvae_toolkit configs tools requirements setup.cfg pyproject.toml '
                         f'README.md LICENSE {source}')
    launch(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', folder, source)
    wheel, = folder.glob('wfvae_toolkit-*.whl')
    launch(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', folder / 'site', wheel)
    return folder / 'site'


@pytest.fixture
def outside(launch, installed, tmp_path):
    """Runs a command that knows the wheel and not the checkout."""
    def run(*command, **options):
        return launch(*command, cwd=tmp_path, env={'PYTHONPATH': str(installed)}, **options)
    return run


def test_the_toolkit_comes_from_the_wheel(outside, installed):
    done = outside(sys.executable, '-c', 'import wfvae_toolkit; print(wfvae_toolkit.__file__)')
    assert done.stdout.strip() == str(installed / 'wfvae_toolkit/__init__.py')


def test_the_shipped_model_reconstructs_a_picture(outside, tmp_path):
    code = ('from PIL import Image\n'
            'from wfvae_toolkit.inference import Reconstructor\n'
            "model = Reconstructor.from_pretrained('wfvae2-tiny')\n"
            "print(model.to_pictures(model.reconstruct(Image.new('RGB', (40, 30), 'red')))[0].size)")
    assert outside(sys.executable, '-c', code).stdout.strip() == '(40, 30)'


def test_every_config_is_in_the_wheel(installed):
    shipped = {path.relative_to(ROOT / 'configs') for path in (ROOT / 'configs').rglob('*.py')}
    assert shipped <= {path.relative_to(installed / 'wfvae_toolkit/configs')
                       for path in (installed / 'wfvae_toolkit/configs').rglob('*.py')}
    assert (installed / 'wfvae_toolkit/tools/dist_train.sh').is_file()


def test_print_config_runs_as_a_module(outside):
    done = outside(sys.executable, '-m', 'wfvae_toolkit.tools.analysis_tools.print_config',
                   'wfvae_toolkit::wfvae2_demo.py')
    assert "type='STLPIPSLoss'" in done.stdout
    assert "constructor='TurnOptimizers'" in done.stdout


@pytest.mark.parametrize('base', ['wfvae_toolkit::wfvae2_demo.py', 'wfvae_toolkit::ablations/no_wavelet_loss.py'])
def test_child_of_a_config_in_the_wheel_loads(outside, tmp_path, base):
    (tmp_path / 'child.py').write_text(f'_base_ = {base!r}\ntrain_cfg = dict(max_iters=2)\n', encoding='utf-8')
    done = outside(sys.executable, '-m', 'wfvae_toolkit.tools.analysis_tools.print_config', 'child.py')
    assert 'max_iters=2,' in done.stdout


def test_child_of_the_demo_trains_and_is_scored(outside, photos, tmp_path):
    (tmp_path / 'child.py').write_text(
        "_base_ = 'wfvae_toolkit::wfvae2_demo.py'\n"
        'model = dict(autoencoder=dict(widths=(8, 16, 16), flow_width=4), discriminator=dict(num_layers=1, width=8))\n'
        'train_cfg = dict(max_iters=2)\n'
        f'train_dataloader = dict(batch_size=2, dataset=dict(data_root={str(photos / "train")!r}))\n'
        f'val_dataloader = dict(dataset=dict(data_root={str(photos / "val")!r}))\n', encoding='utf-8')
    outside(sys.executable, '-m', 'wfvae_toolkit.tools.train', 'child.py')
    assert (tmp_path / 'work_dirs/child/iter_2.pth').is_file()
    done = outside(sys.executable, '-m', 'wfvae_toolkit.tools.test', 'child.py', 'work_dirs/child', '--crop', '32')
    assert '3 images, 0 skipped' in done.stdout
