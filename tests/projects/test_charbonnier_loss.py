import csv
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / 'projects/charbonnier_loss'
CONFIG = PROJECT / 'charbonnier_loss/configs/charbonnier_demo.py'
# Small enough for a test: the demo's model cut down.
SMALL = {
    'model.autoencoder.widths': [8, 8, 8], 'model.autoencoder.flow_width': 4, 'model.discriminator.width': 8,
    'model.losses.perceptual': None, 'model.losses.adversarial.balance': ['pixel'],
    'train_dataloader.num_workers': 0, 'train_dataloader.batch_size': 1, 'train_cfg.max_iters': 2,
    'val_evaluator.metrics.LPIPS': None, 'val_evaluator.metrics.STLPIPS': None,
    'default_hooks.curves': None, 'default_hooks.pictures': None, 'visualizer.vis_backends': [],
    'default_hooks.logger.interval': 1}


@pytest.fixture
def loss(monkeypatch):
    """Makes a CharbonnierLoss from settings."""
    monkeypatch.syspath_prepend(PROJECT)
    from charbonnier_loss import CharbonnierLoss

    return CharbonnierLoss


@pytest.fixture
def train_project(launch, photos, tmp_path):
    """Trains a config in a process of its own; returns the rows of its train.csv."""
    def run(config, *path, **options):
        options = {**SMALL, 'train_dataloader.dataset.data_root': photos / 'train',
                   'val_dataloader.dataset.data_root': photos / 'val', **options}
        done = launch(sys.executable, 'tools/train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options',
                      *(f'{key}={value}' for key, value in options.items()),
                      env={'PYTHONPATH': ':'.join(map(str, [ROOT, *path]))})
        assert 'CharbonnierLoss' in done.stdout + done.stderr  # in the printed config
        with open(tmp_path / 'run/train.csv', encoding='utf-8', newline='') as file:
            rows = list(csv.DictReader(file))
        assert [row['iteration'] for row in rows] == ['1', '2']
        # Hundreds of thousands of errors, each at least eps, which is 10 where a test wants to see it.
        values = 3 * 128**2
        assert all(values * 10 <= float(row['pixel']) <= values * math.hypot(10, 2.5) for row in rows)
        return rows
    return run


def child(folder, text):
    path = folder / 'child.py'
    path.write_text(f"_base_ = 'wfvae_toolkit::wfvae2_demo.py'\n{text}", encoding='utf-8')
    return path


# the loss

def test_far_from_zero_it_is_l1_and_near_zero_it_is_a_parabola(loss, make_step):
    error = torch.tensor([-1.5, 0.5, 1e-5, 0.0]).double()
    step = make_step(target=torch.zeros(1, 1, 2, 2).double(), reconstruction=error.view(1, 1, 2, 2))
    eps = 1e-3
    exact = 2.0 + eps**2 / 2 * (1 / 1.5 + 1 / 0.5) + 2 * eps + 1e-10 / (2 * eps)
    assert loss(eps=eps)(step).item() == pytest.approx(exact, abs=1e-9)


def test_it_sums_over_an_image_and_averages_over_the_batch(loss, make_step):
    step = make_step(target=torch.zeros(2, 3, 4, 4), reconstruction=torch.stack(
        [torch.full((3, 4, 4), 3.0), torch.full((3, 4, 4), -1.0)]))
    assert loss(eps=4.0)(step).item() == pytest.approx(48 * (5 + math.sqrt(17)) / 2)


def test_gradient_passes_zero_smoothly(loss, make_step):
    reconstruction = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss()(make_step(target=torch.zeros(1, 3, 4, 4), reconstruction=reconstruction)).backward()
    assert torch.equal(reconstruction.grad, torch.zeros(1, 3, 4, 4))


def test_eps_must_be_positive(loss):
    with pytest.raises(ValueError, match='eps=0: use a number above 0'):
        loss(eps=0)


# three ways in

def test_config_is_short():
    assert len(CONFIG.read_text(encoding='utf-8').splitlines()) < 10


def test_by_custom_imports(train_project):
    train_project(CONFIG, PROJECT, **{'model.losses.pixel.eps': 10.0})


def test_by_dotted_path(train_project, tmp_path):
    train_project(child(tmp_path, "model = dict(losses=dict(pixel=dict(_delete_=True, eps=10.0, "
                                  "type='charbonnier_loss.loss.CharbonnierLoss')))\n"), PROJECT)


def test_by_entry_point(train_project, launch, tmp_path):
    shutil.copytree(PROJECT, tmp_path / 'source', ignore=shutil.ignore_patterns('__pycache__'))
    launch(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation', '--target',
           tmp_path / 'site', tmp_path / 'source')
    text = "model = dict(losses=dict(pixel=dict(_delete_=True, type='CharbonnierLoss', eps=10.0)))\n"
    train_project(child(tmp_path, text), tmp_path / 'site')
    # Its shipped config comes along.
    (tmp_path / 'child.py').write_text("_base_ = 'charbonnier_loss::charbonnier_demo.py'\n", encoding='utf-8')
    train_project(tmp_path / 'child.py', tmp_path / 'site', **{'model.losses.pixel.eps': 10.0})


def test_none_of_the_ways_is_an_error_that_names_the_loss(launch, tmp_path):
    config = child(tmp_path, "model = dict(losses=dict(pixel=dict(_delete_=True, type='CharbonnierLoss')))\n")
    done = launch(sys.executable, 'tools/train.py', config, '--work-dir', tmp_path / 'run', check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no loss is called 'CharbonnierLoss'")
