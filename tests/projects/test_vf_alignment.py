import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import noise
from wfvae_toolkit.checkpoints import load_training_checkpoint
from wfvae_toolkit.losses import Step
from wfvae_toolkit.visualization.records import read_records

PROJECT = Path(__file__).resolve().parents[2] / 'projects/vf_alignment'
TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'


@pytest.fixture
def vf(import_project):
    return import_project('vf_alignment')


class Autoencoder:
    latent_channels = 4


@pytest.fixture
def step(make_step, make_images):
    return make_step(target=make_images(2, 64, 48), latents=noise(2, 4, 8, 6, seed=1).requires_grad_())


def by_hand(latents, features, cosine_margin, matrix_margin):
    """Both gaps of (B, D, h, w) by loops over positions, in numpy."""
    def cosine(a, b):
        return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))

    latents, features = (x.detach().double().numpy().reshape(*x.shape[:2], -1) for x in (latents, features))
    first, second = [], []
    for z, f in zip(latents, features, strict=True):
        positions = range(z.shape[1])
        first += [max(0.0, 1 - cosine_margin - cosine(z[:, i], f[:, i])) for i in positions]
        second += [max(0.0, abs(cosine(z[:, i], z[:, j]) - cosine(f[:, i], f[:, j])) - matrix_margin)
                   for i in positions for j in positions]
    return np.mean(first), np.mean(second)


# the two gaps

@pytest.mark.parametrize('margins', [(0.0, 0.0), (0.5, 0.25)])
def test_gaps_are_the_paper_s(vf, margins):
    latents, features = noise(2, 5, 2, 3, seed=1), noise(2, 5, 2, 3, seed=2)
    latents[:, :, 0] = features[:, :, 0]  # some within the margins
    expected = by_hand(latents, features, *margins)
    assert vf.cosine_gap(latents, features, margins[0]).item() == pytest.approx(expected[0], abs=1e-6)
    assert vf.matrix_gap(latents, features, margins[1]).item() == pytest.approx(expected[1], abs=1e-6)
    assert min(expected) > 0.05


def test_the_matrix_sees_no_turn_of_the_vectors_and_neither_gap_their_length(vf):
    features = noise(1, 5, 3, 3)
    turn, _ = torch.linalg.qr(noise(5, 5, seed=3))
    turned = 7 * torch.einsum('dc,bchw->bdhw', turn, features)
    assert vf.matrix_gap(turned, features, 0.0).item() == pytest.approx(0, abs=1e-6)
    assert vf.cosine_gap(turned, features, 0.0) > 0.5
    assert vf.cosine_gap(7 * features, features, 0.0).item() == pytest.approx(0, abs=1e-6)


def test_within_the_margins_nothing_is_left_to_improve(vf):
    features = noise(1, 5, 3, 3)
    near = (features + 0.05 * noise(1, 5, 3, 3, seed=4)).requires_grad_()
    (vf.cosine_gap(near, features, 0.5) + vf.matrix_gap(near, features, 0.5)).backward()
    assert not near.grad.any()


# the row

def test_the_row_is_their_sum_of_projected_latents(vf, step):
    loss = vf.VFAlignmentLoss(layer=2, cosine_margin=0.1, matrix_margin=0.2)
    loss.check_autoencoder({}, Autoencoder)
    value = loss(step)
    projected = torch.einsum('dc,bchw->bdhw', loss.projection.weight[:, :, 0, 0], step.latents)
    with torch.no_grad():
        features = torch.nn.functional.interpolate(loss.features.maps(step.target)[2], (8, 6), mode='bilinear',
                                                   antialias=True)
    expected = sum(by_hand(projected, features, 0.1, 0.2)) * step.values_per_image
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert step.latents.grad.abs().sum() > 0
    assert loss.projection.weight.grad.abs().sum() > 0
    assert list(dict(loss.named_parameters())) == list(loss.state_dict()) == ['projection.weight']


def test_bf16_changes_it_little(vf, step):
    loss = vf.VFAlignmentLoss()
    loss.check_autoencoder({}, Autoencoder)
    with torch.autocast('cpu', torch.bfloat16):
        low = loss(step)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(loss(step).item(), rel=0.02)


def test_a_step_against_the_gradient_aligns(vf, step):
    loss = vf.VFAlignmentLoss()
    loss.check_autoencoder({}, Autoencoder)
    before = loss(step)
    before.backward()
    with torch.no_grad():
        step.latents -= 1e-2 * step.latents.grad / step.latents.grad.abs().max()
    assert loss(step) < before


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(cosine_margin=1), 'cosine_margin=1: a number from 0 and below 1'),
    (dict(matrix_margin=-0.1), 'matrix_margin=-0.1: a number from 0 and below 2'),
    (dict(layer=5), 'stlpips-alex has maps 0 to 4'), (dict(layer=1.0), 'has maps 0 to 4')])
def test_settings_out_of_range_are_refused(vf, settings, message):
    with pytest.raises(ValueError, match=message):
        vf.VFAlignmentLoss(**settings)


# in a training

def test_its_factor_is_a_tenth_of_the_ratio_of_gradients_at_the_encoder_s_last_layer(vf, make_model, make_images):
    torch.manual_seed(0)
    row = dict(type='VFAlignmentLoss', weight=0.1, balance=('pixel',), balance_at='encoder.conv_out')
    model = make_model(losses=dict(pixel=dict(type='L1Loss'), vf=row))
    images, layer = make_images(2, 32, 32), model.autoencoder.encoder.conv_out.weight
    _, log = model.autoencoder_turn(images, sample_seeds=[0, 1])
    sizes = []
    for name in ('pixel', 'vf'):
        reconstruction, _, latents, *_ = model.network_pass('autoencoder')(images, True, [0, 1])
        value = model.losses[name](Step(images, reconstruction, latent_dist=None, latents=latents))
        sizes.append(torch.autograd.grad(value, layer)[0].norm().item())
    assert log['adaptive_weight/vf'].item() == pytest.approx(0.1 * sizes[0] / (sizes[1] + 1e-6), rel=1e-4)


@pytest.mark.slow
def test_it_trains_and_resumes_exactly(vf, train, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TINY.parents[1] / 'plugins')
    config = tmp_path / 'child.py'
    config.write_text(f"_base_ = '{TINY}'\ncustom_imports = dict(imports='vf_alignment')\n"
                      "model = dict(losses=dict(vf=dict(type='VFAlignmentLoss', balance=('pixel',), "
                      "balance_at='encoder.conv_out')))\ntrain_dataloader = dict(dataset=dict(pipeline=[\n"
                      "    dict(type='RandomCrop', size=32), dict(type='RandomFlip')]))\n")
    options = {'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None, 'default_hooks.logger.interval': 1}
    whole = train(config, tmp_path / 'whole', **options)
    stop = [dict(type='run_probes.StopAt', iteration=3)]
    train(config, tmp_path / 'parts', **options, custom_hooks=stop)
    parts = train(config, tmp_path / 'parts', '--resume', '--resume-drop', 'early_stop', **options)
    values = [[(row['vf'], row['adaptive_weight/vf']) for row in read_records(run) if 'vf' in row]
              for run in (whole, parts)]
    assert values[0] == values[1]
    assert min(min(row) for row in values[0]) > 0
    state = load_training_checkpoint(whole / 'iter_6.pth')['state_dict']
    assert [name for name in state if name.startswith('losses.')] == ['losses.vf.projection.weight']


def test_the_measure_fits_the_best_map(vf):
    from vf_alignment.measure import best_map, gaps

    latents, linear_map = noise(2, 4, 8, 8), noise(6, 4, seed=5)
    features = torch.einsum('dc,bchw->bdhw', linear_map, latents)
    assert torch.allclose(best_map(latents, features, steps=0), linear_map, atol=0.01)
    crooked = torch.nn.functional.normalize(features + noise(2, 6, 8, 8, seed=6), dim=1)
    values = [sum(gaps(best_map(latents, crooked, steps), latents, crooked)).item() for steps in (0, 20, 60)]
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.95 * values[0]


@pytest.mark.slow
def test_the_measure_prints_one_line(vf, train, tmp_path, photos, capsys):
    run = train('tiny', tmp_path, **{'train_cfg.max_iters': 1})
    from vf_alignment.measure import main

    capsys.readouterr()
    main([str(run), str(photos / 'train'), str(photos / 'val'), '--crop', '32'])
    pattern = r'3 images: L_mcos 0\.\d{4}, L_mdms 0\.\d{4}; without margins [01]\.\d{4}, 0\.\d{4}\n'
    assert re.fullmatch(pattern, capsys.readouterr().out)


def test_its_config_is_the_demo_with_one_row_more(vf):
    from wfvae_toolkit.utils.config import load_config

    ours, demo = (load_config(f'{name}.py') for name in ('vf_alignment::vf_alignment_demo',
                                                         'wfvae_toolkit::wfvae2_demo'))
    assert ours.model.losses.pop('vf').type == 'VFAlignmentLoss'
    assert ours.model == demo.model
