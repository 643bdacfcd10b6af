"""Each protocol against the libraries that its project calls: torchmetrics, scikit-image and the lpips package.

The functions below write down what the named scripts compute; no code of ours is in them. Perceptual networks have
random weights, because the trained ones cannot be had everywhere.
"""

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from tests.models.perceptual.test_lpips import save_trunk
from wfvae_toolkit.evaluation import PROTOCOLS, ReconstructionEvaluator, build_evaluation_data, evaluate_protocols
from wfvae_toolkit.evaluation.protocols import find_protocol
from wfvae_toolkit.models.perceptual.lpips import TRUNK_FILES
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.utils import options
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_lpips, import_torchvision

import_torchvision()  # torchmetrics alone cannot import every build of it
torchmetrics = importlib.import_module('torchmetrics')
EDGE, COUNT = 32, 11
FOREIGN = [name for name in PROTOCOLS if name != 'ours']


class Wavy(nn.Module):
    """An autoencoder of one pixel to one latent whose pictures leave [-1, 1], with a posterior of some width."""

    downsample_factor = 1

    def encode(self, images):
        dist = DiagonalGaussian(0.5 * images, torch.full_like(images, -6.0))
        return type('Output', (), {'latent_dist': dist})

    def decode(self, latents):
        return type('Output', (), {'sample': 2.1 * latents + 0.1 * torch.sin(9 * latents.roll(1, -1))})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Pictures of several sizes; the last has the size that is scored."""
    place = tmp_path_factory.mktemp('pictures')
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        size = (EDGE, EDGE) if number == COUNT - 1 else (40 + 7 * number, 90 - 5 * number)
        coarse = Image.fromarray(generator.integers(0, 256, (9, 7, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(place / f'{number:02}.png')
    return place


@pytest.fixture(scope='module')
def lpips_networks(tmp_path_factory):
    """Names of nets -> the lpips package's network of random weights; torch hub's folder holds their trunks."""
    hub = tmp_path_factory.mktemp('hub')
    (hub / 'checkpoints').mkdir()
    networks = {}
    for net, name in TRUNK_FILES.items():
        torch.manual_seed(0)
        networks[net] = import_lpips().LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
        save_trunk(networks[net], hub / 'checkpoints' / name)
    former = torch.hub.get_dir()
    torch.hub.set_dir(str(hub))
    yield networks
    torch.hub.set_dir(former)


def score(folder, names, lpips, **settings):
    """{protocol: (summary, targets, reconstructions)} of one pass; images (N, 3, EDGE, EDGE) in the data's order."""
    rows = {} if lpips else {'LPIPS': None}
    evaluators = {}
    for name in names:
        evaluators[name] = ReconstructionEvaluator({}, protocol=name, resolution=EDGE, **settings)
        for row in rows:
            evaluators[name].metrics.pop(row, None)
    cfg = dict(batch_size=3, dataset=dict(type='ImageFolder', data_root=str(folder)))
    seen = {name: ([], []) for name in names}

    def note(name, number, batch, target, reconstructions):
        for held, images in zip(seen[name], (target, reconstructions['']), strict=True):
            held.append(images)

    summaries = evaluate_protocols({'': Wavy()}, build_evaluation_data(cfg, evaluators), evaluators, 'cpu', note)
    return {name: (summaries[name], *map(torch.cat, seen[name])) for name in names}


@pytest.fixture(scope='module')
def scored(folder):
    return score(folder, FOREIGN, lpips=False)


def batches(values):
    return [values[start:start + 8] for start in range(0, len(values), 8)]


# what the scripts compute, in double precision where they leave the choice

def skimage_ssim(target, made, data_range):
    """SSIM of each image over the valid region, which torchmetrics computed before version 1.4.2."""
    return [structural_similarity(*pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                  data_range=data_range, channel_axis=0)
            for pair in zip(target.double().numpy(), made.double().numpy(), strict=True)]


def va_vae(target, made):
    """LightningDiT: PNGs by 127.5 x + 128, SSIM and LPIPS of the floats, means of batch means."""
    pngs = [torch.clamp(127.5 * x + 128.0, 0, 255).to(torch.uint8).double() for x in (target, made)]
    psnr = 20 * torch.log10(255.0 / torch.sqrt((pngs[0] - pngs[1]).square().mean((1, 2, 3))))
    ssim = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=(-1.0, 1.0))
    ssims = [ssim(made_batch.double(), batch.double())
             for batch, made_batch in zip(batches(target), batches(made), strict=True)]
    valid = [np.mean(skimage_ssim(*pair, 2.0)) for pair in zip(
        batches(target.clamp(-1, 1)), batches(made.clamp(-1, 1)), strict=True)]
    return dict(PSNR=psnr.mean(), SSIM=torch.stack(ssims).mean(), SSIM_valid=np.mean(valid))


def dc_ae(target, made):
    """efficientvit: 8 bits by 255 v + 0.5, SSIM of 0..255."""
    levels = [(255 * ((x + 1) / 2) + 0.5).clamp(0, 255).to(torch.uint8).double() for x in (target, made)]
    psnr = 10 * torch.log10(255.0**2 / (levels[0] - levels[1]).square().mean((1, 2, 3)))
    ssim = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=(0.0, 255.0))
    ssim.update(levels[0], levels[1])
    return dict(PSNR=psnr.mean(), SSIM=ssim.compute(), SSIM_valid=np.mean(skimage_ssim(*levels, 255)))


def rae(target, made):
    """RAE: references in 8 bits, reconstructions cut to 8 bits."""
    reference = ((target + 1) / 2 * 255).round().to(torch.uint8).double() / 255
    cut = ((made + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8).double() / 255
    mse = torch.clamp((reference - cut).square().mean((1, 2, 3)), min=1e-10)
    ssim = torchmetrics.functional.image.structural_similarity_index_measure(
        target=reference, preds=cut, data_range=1.0, reduction='none')
    return dict(PSNR=(20.0 * torch.log10(1 / torch.sqrt(mse))).mean(), SSIM=ssim.mean(),
                SSIM_valid=np.mean(skimage_ssim(reference, cut, 1.0)))


def ldm(target, made):
    """AutoencoderKL: scikit-image's defaults on clipped floats."""
    pairs = [[((x + 1.0) / 2.0).permute(1, 2, 0).double().numpy().clip(0.0, 1.0) for x in pair]
             for pair in zip(target, made, strict=True)]
    return dict(PSNR=np.mean([peak_signal_noise_ratio(*pair, data_range=1.0) for pair in pairs]),
                SSIM=np.mean([structural_similarity(*pair, channel_axis=-1, data_range=1.0) for pair in pairs]))


SCRIPTS = {'va-vae': va_vae, 'dc-ae': dc_ae, 'rae': rae, 'ldm': ldm}


@pytest.mark.parametrize('name', FOREIGN)
def test_psnr_and_ssim_equal_the_script_s(scored, name):
    summary, target, made = scored[name]
    for metric, expected in SCRIPTS[name](target, made).items():
        assert summary.metrics[metric]['mean'] == pytest.approx(float(expected), abs=1e-6), metric


def test_the_same_model_has_other_numbers_under_each(scored):
    for metric, apart in (('PSNR', 1e-3), ('SSIM', 1e-5)):
        values = sorted(scored[name][0].metrics[metric]['mean'] for name in FOREIGN)
        assert min(high - low for low, high in zip(values, values[1:], strict=False)) > apart


def test_protocols_with_equal_squares_share_the_reconstructions(scored):
    assert torch.equal(scored['dc-ae'][2], scored['rae'][2])
    assert not torch.equal(scored['va-vae'][1], scored['ldm'][1])


def test_a_sample_is_decoded_where_the_script_does(folder, scored):
    """Noise of std exp(-3), times 2.1, on top of what the mean gives; the same in each pass."""
    _, target, made = scored['ldm']
    of_mean = Wavy().decode(Wavy().encode(target).latent_dist.mode()).sample
    assert (made - of_mean).std() == pytest.approx(2.1 * np.exp(-3), rel=0.5)
    assert torch.equal(score(folder, ['ldm'], lpips=False)['ldm'][2], made)
    _, target, made = scored['rae']
    assert torch.equal(made, Wavy().decode(Wavy().encode(target).latent_dist.mode()).sample)


@pytest.mark.slow
def test_lpips_equals_the_script_s(folder, lpips_networks):
    """The lpips package's of the images that each script passes; of DC-AE torchmetrics' with its own heads."""
    torch.manual_seed(0)
    theirs = torchmetrics.functional.image.lpips._LPIPS(pretrained=True, net='alex', pnet_rand=True)
    theirs.net.load_state_dict(lpips_networks['alex'].net.state_dict())
    vgg = lpips_networks['vgg']
    for name, (summary, target, made) in score(folder, FOREIGN, lpips=True).items():
        with torch.no_grad():
            if name == 'dc-ae':
                levels = [(255 * ((x + 1) / 2) + 0.5).clamp(0, 255).to(torch.uint8) / 255 for x in (made, target)]
                expected = theirs(*levels, normalize=True).mean()
            elif name == 'rae':
                cut = ((made + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8) / 255
                reference = ((target + 1) / 2 * 255).round() / 255
                expected = vgg((cut - 0.5) * 2, (reference - 0.5) * 2).mean()
            else:
                distances = vgg(made, target).flatten()
                expected = torch.stack([one.mean() for one in batches(distances)]).mean() if name == 'va-vae' else (
                    distances.mean())
        assert summary.metrics['LPIPS']['mean'] == pytest.approx(float(expected), abs=1e-6), name
        assert f'LPIPS 0.1, {"AlexNet" if name == "dc-ae" else "VGG16"}' in summary.protocol['LPIPS']


# what is stated, kept and refused

def test_a_summary_names_its_protocol_and_the_tables_beside_which_it_may_stand(scored):
    for name in FOREIGN:
        protocol = scored[name][0].protocol
        assert list(protocol).index('protocol') < list(protocol).index('quantize')
        assert protocol['protocol'] == name
        assert 'arXiv' in protocol['may_stand_beside'] or 'AutoencoderKL' in protocol['may_stand_beside']
        assert protocol['pipeline'].endswith(f'to {EDGE} px')
        json.dumps(protocol)
    assert 'mean of the means of batches of 8 images' in scored['va-vae'][0].protocol['SSIM']
    assert '7x7 uniform window, valid region, sample covariance' in scored['ldm'][0].protocol['SSIM']
    assert 'at most 100 dB' in scored['rae'][0].protocol['PSNR']
    ours = ReconstructionEvaluator({}).summarize().protocol
    assert (ours['protocol'], ours['may_stand_beside'][:24]) == ('ours', 'tables of this toolkit t')


def test_rows_of_other_names_are_kept_and_of_its_own_only_the_files(tmp_path):
    rows = find_protocol('rae').rows({
        'PSNR': dict(type='PooledPSNR'), 'pooled': dict(type='PooledPSNR'), 'SSIM': None,
        'LPIPS': dict(type='LPIPS', net='alex', trunk_weights='file.pth')})
    assert list(rows)[:2] == ['PSNR', 'SSIM']
    assert rows['PSNR']['type'] == 'PSNR'
    assert rows['pooled'] == dict(type='PooledPSNR')
    assert (rows['LPIPS']['net'], rows['LPIPS']['trunk_weights']) == ('vgg', 'file.pth')
    config = {'PSNR': dict(type='PooledPSNR')}
    assert find_protocol('ours').rows(config) == config


def test_what_cannot_be_is_refused():
    with pytest.raises(SettingError, match="protocol='adm': use one of ours, va-vae, dc-ae, rae, ldm"):
        ReconstructionEvaluator({}, protocol='adm')
    with pytest.raises(SettingError, match="protocol 'ours' scores what val_dataloader.dataset.pipeline makes"):
        ReconstructionEvaluator({}, resolution=64)
    with pytest.raises(SettingError, match='resolution=0'):
        ReconstructionEvaluator({}, protocol='rae', resolution=0)


def test_the_tools_offer_all_of_them():
    assert tuple(PROTOCOLS) == options.PROTOCOLS
