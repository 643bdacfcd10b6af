"""Vectors of images: those of torch-fidelity's and pytorch-fid's own classes on the same random weights."""

import importlib

import pytest
import torch

from tests.helpers import TinyFeatures, save_random_inception
from wfvae_toolkit.models.perceptual import STLPIPS, PerceptualWeightsMissing
from wfvae_toolkit.models.perceptual.features import find_features, load_maps
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_torch_fidelity, import_transformers


def images(count=2, height=40, width=52):
    return torch.randint(256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(scope='module')
def inception_weights(tmp_path_factory):
    """A file of random weights of FID's InceptionV3."""
    return save_random_inception(tmp_path_factory.mktemp('weights') / 'inception.pth')


@pytest.mark.slow
@pytest.mark.parametrize('layer', ['64', '192', '768', '2048'])
def test_inception_equals_torch_fidelity_s(inception_weights, layer):
    module = import_torch_fidelity('feature_extractor_inceptionv3')
    theirs = module.FeatureExtractorInceptionV3('inception-v3-compat', [layer],
                                                feature_extractor_weights_path=str(inception_weights))
    with torch.no_grad():
        expected, = theirs(images())
        ours = find_features('inception', str(inception_weights), layer)
        found = ours(images())
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
    assert (ours.width, found.shape) == (int(layer), (2, int(layer)))


@pytest.mark.slow
def test_inception_equals_pytorch_fid_s(inception_weights, monkeypatch):
    module = importlib.import_module('pytorch_fid.inception')
    monkeypatch.setattr(module, 'load_state_dict_from_url', lambda *args, **kwargs: torch.load(inception_weights))
    theirs = module.InceptionV3([module.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    with torch.no_grad():
        expected = theirs(images() / 255)[0].squeeze(3).squeeze(2)
        found = find_features('inception-pytorch-fid', str(inception_weights))(images())
        other = find_features('inception', str(inception_weights))(images())
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
    assert (found - other).abs().max() > 1e-4 * expected.abs().max()


@pytest.mark.slow
def test_files_of_other_networks_are_refused(inception_weights, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'Conv2d_1a_3x3.conv.weight': torch.zeros(1)}, path)
    with pytest.raises(SettingError, match="other.pth does not hold the weights of FID's InceptionV3"):
        find_features('inception', str(path))


@pytest.mark.slow
def test_dinov2_equals_transformers(tmp_path):
    transformers = import_transformers()
    config = transformers.Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=56,
                                       patch_size=14)
    torch.manual_seed(0)
    theirs = transformers.Dinov2Model(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = find_features('dinov2', str(tmp_path))
    square = images(2, 224, 224)  # needs no resizing
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs(pixel_values=(square / 255 - mean) / std).last_hidden_state[:, 0]
        assert (ours(square) - expected).abs().max() < 1e-5
        assert ours(images()).shape == (2, 24)
    assert (ours.width, len(ours.fingerprint)) == (24, 16)
    # Feature maps: tokens of each block, on the asked grid, the last ones normalised.
    with torch.no_grad():
        first, last = load_maps('dinov2', str(tmp_path)).maps(square / 127.5 - 1, grid=(16, 16))
        hidden = theirs(pixel_values=(square / 255 - mean) / std, output_hidden_states=True)
    assert (last.shape, ours.map_widths) == ((2, 24, 16, 16), [24, 24])
    assert (last.flatten(2).transpose(1, 2) - hidden.last_hidden_state[:, 1:]).abs().max() < 1e-4
    assert (first[:, :, 1, 2] - hidden.hidden_states[1][:, 1 + 16 + 2]).abs().max() < 1e-4
    picture = (images() / 127.5 - 1).requires_grad_()
    load_maps('dinov2', str(tmp_path)).maps(picture, grid=(5, 7))[0].square().mean().backward()
    assert picture.grad.abs().sum() > 0


def test_the_trunk_of_stlpips_needs_no_download():
    network = find_features('stlpips-alex')
    with torch.no_grad():
        found = network(images())
        *_, last = STLPIPS('alex')._features(images() / 127.5 - 1)
    assert torch.equal(found, last.mean((2, 3)))
    assert (network.width, network.name) == (256, 'stlpips-alex')
    assert find_features('stlpips-alex') is network


def test_any_class_by_its_path():
    network = find_features('tests.helpers.TinyFeatures')
    assert network.width == 6
    assert torch.equal(network(images()), TinyFeatures()(images()).float())


def test_maps_of_stlpips_are_its_stages():
    network, picture = load_maps('stlpips-alex'), images() / 127.5 - 1
    with torch.no_grad():
        found, stages = network.maps(picture), list(STLPIPS('alex')._features(picture))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, stages, strict=True))
    assert network.map_widths == [maps.shape[1] for maps in found]
    assert not network.state_dict()
    assert not list(network.parameters())
    assert not network.train().training
    with pytest.raises(SettingError, match='20x32 px: features of stlpips-alex need at least 21x21 px'):
        network.maps(torch.zeros(1, 3, 32, 20))


def test_maps_of_any_class_with_that_method():
    network = load_maps('tests.helpers.TinyMaps')
    assert network.map_widths == [3, 12]
    assert [tuple(maps.shape) for maps in network.maps(torch.zeros(2, 3, 8, 12))] == [(2, 3, 8, 12), (2, 12, 4, 6)]
    with pytest.raises(SettingError, match="features='tests.helpers.TinyFeatures' gives vectors and no feature maps"):
        load_maps('tests.helpers.TinyFeatures')


def test_missing_weights_say_what_to_do(tmp_path):
    with pytest.raises(PerceptualWeightsMissing, match=r"FID needs InceptionV3's weights .*absent\.pth \(no such file\)"
                                                       r".*weights-inception-2015-12-05-6726825d\.pth elsewhere"):
        find_features('inception', str(tmp_path / 'absent.pth'))
    with pytest.raises(PerceptualWeightsMissing, match=r"FDD needs DINOv2's weights \(none named\).*dinov2-large"):
        find_features('dinov2')
    with pytest.raises(PerceptualWeightsMissing, match=f'no config.json in {tmp_path}'):
        find_features('dinov2', str(tmp_path))


@pytest.mark.parametrize(('arguments', 'message'), [
    (('vgg',), "features='vgg': use one of inception, inception-pytorch-fid, dinov2"),
    (('tests.helpers.Nothing',), "features='tests.helpers.Nothing': module 'tests.helpers' has no attribute"),
    (('inception', 'x.pth', '100'), "layer='100': InceptionV3 has '64', '192', '768', '2048'"),
    (('stlpips-vgg', None, '64'), "layer='64': only InceptionV3 has layers"),
    (('stlpips-vgg', 'x.pth'), "weights='x.pth': a package brings the weights of stlpips-vgg")])
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        find_features(*arguments)
