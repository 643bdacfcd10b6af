"""Training models of the shipped configs, with an untrained LPIPS, and what their turns give."""

from pathlib import Path

import torch

from tests.training.test_ablations import narrow
from wfvae_toolkit.analysis.benchmark.untrained import UntrainedLPIPSLoss
from wfvae_toolkit.registry import MODELS
from wfvae_toolkit.utils.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SHIPPED = sorted([*CONFIGS.glob('*.py'), CONFIGS / 'zoo/wfvae2_tiny.py'])
ABLATIONS = sorted((CONFIGS / 'ablations').glob('*.py'))


def build_model(path, small, **settings):
    """Config -> training model on the CPU; ``small``: of few narrow layers; ``settings`` over ``model``."""
    cfg = load_config(path)
    model = narrow(cfg.model) if small else cfg.model
    if model.losses.get('perceptual') is not None:
        model.losses.perceptual = dict(type=UntrainedLPIPSLoss, net='alex' if small else 'vgg')
    torch.manual_seed(0)
    return MODELS.build({**model.to_dict(), 'precision': 'fp32', 'compile': None, **settings}).train()


def turns(model, images):
    """Images (B, 3, H, W) -> turn -> (scalars of its log, gradients by name), all on the CPU; no update."""
    found = {}
    for name in ('autoencoder', 'discriminator'):
        if name == 'discriminator' and model.discriminator is None:
            continue
        model.zero_grad(set_to_none=True)
        loss, log = getattr(model, f'{name}_turn')(images, sample_seeds=list(range(len(images))))
        loss.backward()
        found[name] = ({key: value.detach().double().cpu() for key, value in log.items() if value.ndim == 0},
                       {key: parameter.grad.cpu() for key, parameter in model.named_parameters()
                        if parameter.grad is not None})
    return found


def difference(ours, theirs):
    """Two results of one turn -> largest difference of a scalar, of 1 or its size, and of all gradients, relative."""
    assert ours[0].keys() == theirs[0].keys()
    assert ours[1].keys() == theirs[1].keys()
    scalars = max(float((value - theirs[0][name]).abs() / max(1.0, theirs[0][name].abs()))
                  for name, value in ours[0].items())
    error = sum(float((value - theirs[1][name]).double().square().sum()) for name, value in ours[1].items())
    size = sum(float(value.double().square().sum()) for value in theirs[1].values())
    return scalars, (error / size) ** 0.5
