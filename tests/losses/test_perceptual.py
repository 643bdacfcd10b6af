import pytest
import torch
from torch import nn

from tests.helpers import TinyFeatures
from wfvae_toolkit.losses import FeatureLoss, LPIPSLoss, STLPIPSLoss
from wfvae_toolkit.models.perceptual import LPIPS, STLPIPS
from wfvae_toolkit.models.perceptual.features import find_features
from wfvae_toolkit.models.perceptual.network import PerceptualNetwork
from wfvae_toolkit.utils.torchvision_shim import import_transformers


@pytest.fixture(scope='module')
def trunk(tmp_path_factory):
    """A random AlexNet trunk in torchvision's form."""
    torch.manual_seed(0)
    state = {}
    convolutions = [module for module in PerceptualNetwork('alex', False, 31).modules()
                    if isinstance(module, nn.Conv2d)]
    for number, conv in enumerate(convolutions):
        state[f'features.{number}.weight'] = torch.randn_like(conv.weight) * 0.05
        state[f'features.{number}.bias'] = torch.randn_like(conv.bias) * 0.05
    path = tmp_path_factory.mktemp('trunk') / 'alexnet.pth'
    torch.save(state, path)
    return path


@pytest.fixture(scope='module')
def pairs(trunk):
    """(loss, network that it stands for)"""
    return {'ST-LPIPS': (STLPIPSLoss(), STLPIPS('alex')),
            'LPIPS': (LPIPSLoss('alex', trunk_weights=trunk), LPIPS('alex', trunk_weights=trunk))}


@pytest.fixture
def step(make_step):
    target, reconstruction = torch.rand(2, 2, 3, 32, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return make_step(target=target, reconstruction=reconstruction.requires_grad_())


@pytest.mark.parametrize('name', ['ST-LPIPS', 'LPIPS'])
def test_is_the_distance_at_every_pixel_value(pairs, step, name):
    loss, network = pairs[name]
    expected = network(step.reconstruction, step.target).mean() * 3 * 32 * 36
    assert expected > 100
    torch.testing.assert_close(loss(step), expected)
    ours, theirs = (torch.autograd.grad(value, step.reconstruction)[0] for value in (loss(step), expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('name', ['ST-LPIPS', 'LPIPS'])
def test_network_is_a_constant(pairs, name):
    loss, network = pairs[name]
    assert not loss.state_dict()
    assert not list(loss.parameters())
    # It moves with its owner all the same.
    values = list(network.parameters()) + list(network.buffers())
    assert sum(b.numel() for b in loss.buffers()) == sum(value.numel() for value in values) > 2e6


@pytest.mark.parametrize('name', ['ST-LPIPS', 'LPIPS'])
def test_network_stays_in_evaluation_mode(pairs, name):
    loss = pairs[name][0]
    loss.train()
    assert loss.training
    assert not any(module.training for module in loss.network.network.modules())


@pytest.mark.parametrize('crop', [24, 34, 100])
def test_centre_crop(step, crop):
    top, left = max(0, (32 - crop) // 2), max(0, (36 - crop) // 2)
    place = ..., slice(top, top + min(crop, 32)), slice(left, left + min(crop, 36))
    expected = STLPIPS('alex')(step.reconstruction[place], step.target[place]).mean() * 3 * 32 * 36
    torch.testing.assert_close(STLPIPSLoss(crop=crop)(step), expected)


def test_a_crop_below_what_the_network_takes_is_refused():
    with pytest.raises(ValueError, match='STLPIPSLoss: crop=20; None, or a whole number of px of at least 21'):
        STLPIPSLoss(crop=20)


# features

def test_is_one_minus_the_cosine_at_every_position(step):
    loss = FeatureLoss('stlpips-alex')
    *_, ours = STLPIPS('alex')._features(step.reconstruction)
    *_, theirs = STLPIPS('alex')._features(step.target)
    cosine = (ours * theirs).sum(1) / (ours.square().sum(1) * theirs.square().sum(1)).sqrt()
    assert cosine.shape[1:] != (1, 1)
    torch.testing.assert_close(loss(step), (1 - cosine).mean() * 3 * 32 * 36, rtol=1e-4, atol=0)
    assert torch.autograd.grad(loss(step), step.reconstruction)[0].any()
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_a_network_of_one_s_own_gets_values_from_0_to_255(step):
    loss = FeatureLoss('tests.helpers.TinyFeatures', crop=16)
    ours, theirs = (TinyFeatures()((picture[..., 8:24, 10:26] + 1) * 127.5)
                    for picture in (step.reconstruction, step.target))
    expected = (1 - torch.nn.functional.cosine_similarity(ours, theirs)).mean().float() * 3 * 32 * 36
    torch.testing.assert_close(loss(step), expected, rtol=1e-4, atol=0)


def test_metrics_share_no_network_with_a_row():
    shared = find_features('stlpips-alex')
    FeatureLoss('stlpips-alex')
    assert list(shared.parameters())


@pytest.mark.slow
def test_dino_s_patch_tokens(tmp_path, step):
    transformers = import_transformers()
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=56,
                                       patch_size=14)
    theirs = transformers.Dinov2Model(config).eval()
    theirs.save_pretrained(tmp_path)
    loss = FeatureLoss('dinov2', str(tmp_path))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    tokens = []
    for picture in (step.reconstruction, step.target):
        large = torch.nn.functional.interpolate((picture + 1) / 2, (224, 224), mode='bicubic', antialias=True)
        tokens.append(theirs(pixel_values=(large.clamp(0, 1) - mean) / std).last_hidden_state[:, 1:])
    expected = (1 - torch.nn.functional.cosine_similarity(*tokens, dim=2)).mean() * 3 * 32 * 36
    torch.testing.assert_close(loss(step), expected, rtol=1e-3, atol=0)
    with torch.autocast('cpu', torch.bfloat16):
        gradient, = torch.autograd.grad(loss(step), step.reconstruction)
    assert gradient.isfinite().all()
    assert gradient.any()
    assert not loss.state_dict()


def test_default_weight():
    assert STLPIPSLoss().weight == 1.0
    assert STLPIPSLoss(weight=0.1).weight == 0.1
