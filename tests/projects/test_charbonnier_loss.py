import csv
import math
import os
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
def settings(photos):
    return {**SMALL, 'train_dataloader.dataset.data_root': photos / 'train',
            'val_dataloader.dataset.data_root': photos / 'val', 'model.losses.pixel.eps': 10.0}


def assert_trained_with_it(work_dir):
    with open(work_dir / 'train.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['iteration'] for row in rows] == ['1', '2']
    # Every difference counts as eps at least, which is 10 here; L1 would give 1 or less.
    assert all(10 <= float(row['per_pixel/pixel']) <= math.hypot(10, 2.5) for row in rows)


def start(config, work_dir, settings):
    """A command that trains."""
    return [sys.executable, 'tools/train.py', config, '--work-dir', work_dir, '--cfg-options',
            *(f'{key}={value}' for key, value in settings.items())]


def python_path(*folders):
    return {'PYTHONPATH': os.pathsep.join(map(str, [ROOT, *folders]))}


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


def test_by_custom_imports(launch, settings, tmp_path):
    launch(*start(CONFIG, tmp_path, settings), env=python_path(PROJECT))
    assert_trained_with_it(tmp_path)


def test_by_dotted_path(train, settings, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    config = child(tmp_path, 'model = dict(losses=dict(pixel=dict(_delete_=True, '
                             "type='charbonnier_loss.loss.CharbonnierLoss')))\n")
    train(config, tmp_path, **settings)
    assert_trained_with_it(tmp_path)


@pytest.mark.slow
def test_by_entry_point(launch, settings, tmp_path):
    shutil.copytree(PROJECT, tmp_path / 'source', ignore=shutil.ignore_patterns('__pycache__'))
    launch(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation', '--target',
           tmp_path / 'site', tmp_path / 'source')
    config = child(tmp_path, "model = dict(losses=dict(pixel=dict(_delete_=True, type='CharbonnierLoss')))\n")
    launch(*start(config, tmp_path, settings), env=python_path(tmp_path / 'site'))
    assert_trained_with_it(tmp_path)
    # Its config comes along.
    done = launch(sys.executable, 'tools/analysis_tools/print_config.py', 'charbonnier_loss::charbonnier_demo.py',
                  env=python_path(tmp_path / 'site'))
    assert "pixel=dict(eps=0.001, type='CharbonnierLoss')" in done.stdout


def test_none_of_the_ways_is_an_error_that_names_the_loss(launch, tmp_path):
    config = child(tmp_path, "model = dict(losses=dict(pixel=dict(_delete_=True, type='CharbonnierLoss')))\n")
    done = launch(sys.executable, 'tools/train.py', config, '--work-dir', tmp_path / 'run', check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: model.losses.pixel: no loss is called 'CharbonnierLoss'")
