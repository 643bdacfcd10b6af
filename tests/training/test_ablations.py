"""Every config in configs/ablations: its model, made narrow, does one update of each turn."""

from pathlib import Path

import pytest
import torch

from wfvae_toolkit.registry import MODELS
from wfvae_toolkit.training import TurnOptimizers
from wfvae_toolkit.utils.config import load_config

pytestmark = pytest.mark.slow  # forty models; tests/tools/test_train.py builds them all among the quick ones

FOLDER = Path(__file__).resolve().parents[2] / 'configs/ablations'
CONFIGS = sorted(FOLDER.glob('*.py'))
WIDTH = 32  # what 32 groups divide


def narrow(model):
    """Reduce widths, layers and latents of a config's ``model`` in place; all other settings stay."""
    autoencoder = model.autoencoder
    for name in ('widths', 'decoder_widths', 'extractor_widths', 'aggregator_widths'):
        if autoencoder.get(name) is not None:
            autoencoder[name] = [WIDTH] * len(autoencoder[name])
    if autoencoder.type == 'LiteVAE':
        autoencoder.update(extractor_widths=[WIDTH], aggregator_widths=[WIDTH], decoder_widths=[WIDTH] * 4)
    if autoencoder.type == 'WFVAE2Image':
        autoencoder.update(flow_width=WIDTH, encoder_layers=1, decoder_layers=2)
        # Shortcuts want the latents' moments to divide the width.
        autoencoder.latent_channels = min(autoencoder.latent_channels, WIDTH // 2)
    if model.get('discriminator') is not None:
        model.discriminator.update(width=8, **({} if model.discriminator.type == 'FeatureDiscriminator' else
                                               dict(num_layers=2)))
    if model.losses.get('perceptual') is not None:  # LPIPS would need a download
        model.losses.perceptual = dict(type='STLPIPSLoss', crop=32)
    return model


def build(path):
    """Config -> (training model, optimizers)."""
    torch.manual_seed(0)
    model = MODELS.build(narrow(load_config(path).model)).train()
    row = dict(optimizer=dict(type='AdamW', lr=1e-3))
    return model, TurnOptimizers(dict(autoencoder=row, discriminator=row))(model)


def test_there_are_enough_of_them():
    assert len(CONFIGS) > 30


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_one_update_of_each_turn(path, make_images, make_batch):
    model, optimizers = build(path)
    trained = set()
    for iteration in range(2):
        turns = model.turns_of(iteration)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        update = model.train_step([make_batch(make_images(2, 64, 64))], optimizers, turns)
        assert not update.skipped
        assert all(torch.isfinite(value).all() for value in update.log.values())
        assert {name.split('.')[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])} == set(
            turns)
        trained |= set(turns)
    assert trained == {'autoencoder'} | ({'discriminator'} if path.stem != 'no_adversarial_loss' else set())


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_it_is_short_says_what_it_asks_and_changes_the_model(path):
    lines = path.read_text(encoding='utf-8').splitlines()
    assert len(lines) < 10
    assert lines[0].startswith('"""')
    assert lines[0].endswith('."""')
    parent = load_config(FOLDER / next(line for line in lines if line.startswith('_base_')).split("'")[1])
    assert load_config(path).model != parent.model


@pytest.mark.parametrize('name', ['demo_autoencoder_kl', 'demo_litevae'])
def test_baselines_have_the_parameters_of_the_demo(name):
    def count(path):
        with torch.device('meta'):
            model = MODELS.build(dict(load_config(path).model, losses=dict(pixel=dict(type='L1Loss'))))
        return sum(parameter.numel() for parameter in model.autoencoder.parameters())

    assert count(FOLDER / f'{name}.py') == pytest.approx(count(FOLDER.parent / 'wfvae2_demo.py'), rel=0.01)
