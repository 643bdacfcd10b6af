import re
from pathlib import Path

import pytest
import torch

from wfvae_toolkit.visualization.records import read_records

PROJECT = Path(__file__).resolve().parents[2] / 'projects/eq_vae'
TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'
SEEDS = tuple(range(100, 106))


@pytest.fixture
def eq_vae(import_project):
    return import_project('eq_vae')


class Enlarging:
    """4x by repetition: turns and halves exactly."""

    class Decoded:
        def __init__(self, sample):
            self.sample = sample

    def decode(self, z):
        return self.Decoded(z[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.fixture
def step(make_step):
    """Six images that are their latents, enlarged."""
    coarse = torch.rand(6, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    latents = torch.nn.functional.interpolate(coarse, (8, 8), mode='bilinear').requires_grad_()
    decoder = Enlarging()
    return make_step(target=decoder.decode(latents).sample.detach(), latents=latents, autoencoder=decoder, seeds=SEEDS)


# transforms

def test_a_turn_is_exact_and_four_are_none(eq_vae):
    x = torch.rand(2, 3, 5, 7)
    turn = eq_vae.Transform(1.0, 1.0, 1)
    assert torch.equal(turn(x, (5, 7))[:, :, 0, 0], x[:, :, 0, -1])
    turned = x
    for _ in range(4):
        turned = turn(turned, turned.shape[2:])
    assert torch.equal(turned, x)


def test_scaling_keeps_constants_and_sizes_are_whole(eq_vae):
    transform = eq_vae.Transform(0.3, 0.74, 1)
    size = transform.latent_size(8, 8)
    assert size == (2, 6)
    assert torch.allclose(transform(torch.full((1, 3, 8, 8), 0.7), size), torch.full((1, 3, 6, 2), 0.7))
    assert eq_vae.Transform(0.25, 0.25, 0).latent_size(1, 1) == (1, 1)


def test_draws_have_their_ranges_and_shares(eq_vae):
    generator = torch.Generator().manual_seed(0)
    draws = [eq_vae.draw_transform(generator, 0.5, 0.25) for _ in range(2000)]
    made = [draw for draw in draws if draw is not None]
    assert abs(len(made) / 2000 - 0.5) < 0.04
    scales = [scale for draw in made for scale in draw[:2]]
    assert 0.25 <= min(scales) < 0.27
    assert 0.98 < max(scales) <= 1.0
    assert all(abs(sum(draw.quarter_turns == turns for draw in made) / len(made) - 0.25) < 0.05 for turns in range(4))
    isotropic = [eq_vae.draw_transform(generator, 1.0, isotropic=True) for _ in range(20)]
    assert all(draw.height_scale == draw.width_scale for draw in isotropic)
    smaller = [eq_vae.draw_transform(generator, 1.0, largest=0.5, turns=False) for _ in range(200)]
    assert {draw.quarter_turns for draw in smaller} == {0}
    assert 0.49 < max(draw.width_scale for draw in smaller) <= 0.5


# the loss

def test_turning_commutes_with_a_decoder_that_repeats(eq_vae, step):
    assert eq_vae.EquivarianceLoss(probability=1.0, smallest=1.0)(step) == 0.0


def test_it_is_the_mean_error_of_those_that_draw_over_the_whole_batch(eq_vae, step):
    loss = eq_vae.EquivarianceLoss(probability=0.5, smallest=1.0)
    drawn = sum(len(latents) for latents, _ in loss.pairs(step))
    assert 0 < drawn < 6
    step.target = step.target + 0.25
    assert loss(step).item() == pytest.approx(step.values_per_image * 0.25 * drawn / 6, rel=1e-5)


def test_pairs_show_the_same_part_at_the_same_size(eq_vae, step):
    error = upside_down = 0.0
    for latents, target in eq_vae.EquivarianceLoss(probability=1.0).pairs(step):
        assert target.shape[2:] == torch.Size(4 * side for side in latents.shape[2:])
        decoded = step.autoencoder.decode(latents).sample.detach()
        error += (target - decoded).abs().mean()
        upside_down += (target - decoded.flip(2)).abs().mean()
    assert error < 0.5 * upside_down


def test_a_transform_belongs_to_its_sample(eq_vae, step, make_step):
    loss = eq_vae.EquivarianceLoss(probability=0.7)
    step.target = step.target + torch.rand(step.target.shape, generator=torch.Generator().manual_seed(1))
    whole = loss(step)
    parts = [loss(make_step(target=step.target[part], latents=step.latents[part], autoencoder=step.autoencoder,
                            seeds=SEEDS[part])) for part in (slice(0, 2), slice(2, 6))]
    assert (2 * parts[0] + 4 * parts[1]).item() / 6 == pytest.approx(whole.item(), rel=1e-6)


def test_a_batch_that_draws_nothing_has_no_gradient(eq_vae, step):
    value = eq_vae.EquivarianceLoss(probability=1e-9)(step)
    value.backward()
    assert value == 0
    assert not step.latents.grad.any()


@pytest.mark.parametrize(('settings', 'message'), [
    *((settings, 'both above 0, up to 1') for settings in (dict(probability=0.0), dict(probability=1.5),
                                                           dict(smallest=0.0))),
    *((settings, 'from smallest=0.25 to 1') for settings in (dict(largest=0.2), dict(largest=1.1))),
    (dict(smallest=1.0, turns=False), 'smallest=1 and turns=False change nothing')])
def test_settings_out_of_range_are_refused(eq_vae, settings, message):
    with pytest.raises(ValueError, match=message):
        eq_vae.EquivarianceLoss(**settings)


def test_scale_equivariance_halves_latents_and_image_alike(eq_vae, step):
    loss = eq_vae.EquivarianceLoss(probability=1.0, smallest=0.5, largest=0.5, isotropic=True, turns=False)
    half = {'scale_factor': 0.5, 'mode': 'bilinear', 'antialias': True}
    decoded = step.autoencoder.decode(torch.nn.functional.interpolate(step.latents, **half)).sample
    error = decoded - torch.nn.functional.interpolate(step.target, **half)
    assert loss(step).item() == pytest.approx(step.values_per_image * error.abs().mean().item(), rel=1e-5)


# in a training

def test_it_trains_and_resumes_exactly(eq_vae, train, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TINY.parents[1] / 'plugins')
    config = tmp_path / 'child.py'
    config.write_text(f"_base_ = '{TINY}'\ncustom_imports = dict(imports='eq_vae')\n"
                      "model = dict(losses=dict(equivariance=dict(type='EquivarianceLoss')))\n")
    options = {'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None, 'default_hooks.logger.interval': 1}
    whole = train(config, tmp_path / 'whole', **options)
    stop = [dict(type='run_probes.StopAt', iteration=3)]
    train(config, tmp_path / 'parts', **options, custom_hooks=stop)
    parts = train(config, tmp_path / 'parts', '--resume', '--resume-drop', 'early_stop', **options)
    values = [[row['equivariance'] for row in read_records(run) if 'equivariance' in row] for run in (whole, parts)]
    assert values[0] == values[1]
    assert max(values[0]) > 0


def test_the_measure_prints_a_line_a_transform(eq_vae, train, tmp_path, photos, capsys):
    run = train('tiny', tmp_path, **{'train_cfg.max_iters': 1})
    from eq_vae.measure import TRANSFORMS, main

    capsys.readouterr()
    main([str(run), str(photos / 'val'), '--crop', '32'])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(TRANSFORMS)
    assert all(re.fullmatch(rf'{name} +-?\d+\.\d\d dB', line) for name, line in zip(TRANSFORMS, lines, strict=True))


@pytest.mark.parametrize('name', ['eq_vae_demo', 'scale_equivariance_demo'])
def test_its_configs_are_the_demo_with_one_row_more(eq_vae, name):
    from wfvae_toolkit.utils.config import load_config

    ours, demo = (load_config(f'{name}.py') for name in (f'eq_vae::{name}', 'wfvae_toolkit::wfvae2_demo'))
    assert ours.model.losses.pop('equivariance').type == 'EquivarianceLoss'
    assert ours.model == demo.model
