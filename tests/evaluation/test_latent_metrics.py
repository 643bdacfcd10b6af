import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.evaluation.loaders import Loader
from wfvae_toolkit.evaluation import EvaluationBatch, ReconstructionEvaluator, evaluate, format_table, psnr
from wfvae_toolkit.models.autoencoders import DecoderOutput, EncoderOutput
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.registry import METRICS


class Doubling(torch.nn.Module):
    """z = 2x, with a constant variance; decode is its inverse."""

    downsample_factor = 1

    def encode(self, x):
        return EncoderOutput(DiagonalGaussian(2 * x, torch.full_like(x, -1.0)))

    def decode(self, z):
        return DecoderOutput(z / 2)


@pytest.fixture
def make_evaluation_batch(make_images):
    """EvaluationBatch of an autoencoder and images in [-1, 1]."""
    def make(autoencoder, images=None, paths=None):
        images = make_images(2, 16, 24) if images is None else images
        posterior = autoencoder.encode(images).latent_dist
        reconstruction = autoencoder.decode(posterior.mode()).sample
        return EvaluationBatch((images + 1) / 2, (reconstruction + 1) / 2, posterior.mode(),
                               paths or tuple(f'{i}.png' for i in range(len(images))), posterior, autoencoder)
    return make


def build(name, **settings):
    return METRICS.build(dict(type=name, **settings))


def test_channels_against_torch_distributions(make_evaluation_batch):
    batch = make_evaluation_batch(Doubling())
    posterior = batch.latent_dist
    kl = kl_divergence(Normal(posterior.mean.double(), posterior.std.double()), Normal(0.0, 1.0)).mean((2, 3))
    measured = build('LatentChannels').measure(batch)
    assert list(measured) == [f'{name}.{channel}' for name in ('mean', 'std', 'kl') for channel in ('00', '01', '02')]
    for channel in range(3):
        plane = batch.latents[:, channel].double().flatten(1).numpy()
        assert measured[f'mean.0{channel}'].tolist() == pytest.approx(plane.mean(1).tolist(), abs=1e-9)
        assert measured[f'std.0{channel}'].tolist() == pytest.approx(plane.std(1).tolist(), abs=1e-9)
        assert measured[f'kl.0{channel}'].tolist() == pytest.approx(kl[:, channel].tolist(), rel=1e-5)
    assert build('LatentKL').measure(batch).tolist() == pytest.approx(kl.sum(1).tolist(), rel=1e-5)


def test_active_channels_are_counted_in_each_image():
    mean = torch.zeros(2, 4, 3, 3)
    mean[0, 1], mean[0, 3], mean[1, 0] = 1.0, 0.1, 2.0  # KL 0.5, 0.005, 2
    batch = EvaluationBatch(torch.zeros(2, 3, 3, 3), torch.zeros(2, 3, 3, 3), mean, ('a', 'b'),
                            DiagonalGaussian(mean, torch.zeros_like(mean)))
    assert build('ActiveChannels').measure(batch).tolist() == [1, 1]
    assert build('ActiveChannels', threshold=0.001).measure(batch).tolist() == [2, 1]


# noise

def test_without_noise_it_is_psnr(make_evaluation_batch):
    class Coarse(Doubling):
        def decode(self, z):
            return DecoderOutput((z * 4).round() / 8)

    batch = make_evaluation_batch(Coarse())
    assert build('LatentNoise', sigmas=(0.0,)).measure(batch)['0'].tolist() == pytest.approx(
        psnr(batch.reconstruction, batch.target).tolist(), abs=1e-4)


def test_noise_is_relative_to_each_channels_std(make_evaluation_batch):
    """A linear decoder passes noise of sigma * std(image) on: its PSNR is known."""
    generator = torch.Generator().manual_seed(0)
    images = 0.2 * torch.randn(1, 3, 200, 200, generator=generator).clamp(-2, 2)  # no clipping at +-1
    batch = make_evaluation_batch(Doubling(), images)
    spread = batch.target.var((2, 3), correction=0).mean().item()
    measured = build('LatentNoise', sigmas=(0.1, 0.5)).measure(batch)
    for sigma in (0.1, 0.5):
        expected = -10 * torch.log10(torch.tensor(sigma**2 * spread)).item()
        assert measured[f'{sigma:g}'].item() == pytest.approx(expected, abs=0.05)


def test_noise_belongs_to_the_image_and_not_to_the_batch(make_evaluation_batch, make_images):
    images, metric = make_images(2, 16, 24), build('LatentNoise')
    both = metric.measure(make_evaluation_batch(Doubling(), images))['0.5']
    single = [metric.measure(make_evaluation_batch(Doubling(), images[i:i + 1], (f'{i}.png',)))['0.5'].item()
              for i in (1, 0)]
    assert both.tolist() == pytest.approx(single[::-1], abs=1e-9)
    other = metric.measure(make_evaluation_batch(Doubling(), images, ('x.png', 'y.png')))['0.5']
    assert (other - both).abs().min() > 1e-6


def test_settings_are_checked():
    with pytest.raises(ValueError, match='LatentNoise: sigmas='):
        build('LatentNoise', sigmas=(-0.1,))


# in an evaluation

LATENT = {name: dict(type=name) for name in ('LatentChannels', 'LatentKL', 'ActiveChannels', 'LatentNoise',
                                             'LatentSpectrum', 'RotationEquivariance', 'ScaleEquivariance')}


def test_all_of_them_in_an_evaluator(make_model, make_images, make_batch):
    model = make_model()
    evaluator = ReconstructionEvaluator({'PSNR': dict(type='PSNR'), **LATENT})
    loader = Loader(make_batch(make_images(2, 32, 32)))
    summary = evaluate({'': model.autoencoder, 'raw': model.autoencoder}, loader, evaluator, 'cpu')
    columns = [column for column in summary.metrics if not column.startswith('raw/')]
    assert columns == ['PSNR', *(f'LatentChannels.{name}.0{i}' for name in ('mean', 'std', 'kl') for i in range(3)),
                       'LatentKL', 'ActiveChannels', 'LatentNoise.0.1', 'LatentNoise.0.5', 'LatentSpectrum.slope',
                       'LatentSpectrum.high_share', 'LatentSpectrum.image_slope', 'LatentSpectrum.image_high_share',
                       'RotationEquivariance.image', 'RotationEquivariance.latent', 'ScaleEquivariance.image',
                       'ScaleEquivariance.latent']
    assert all(entry['mean'] is not None for entry in summary.metrics.values())
    directions = {name.partition('.')[0]: summary.metrics[name]['higher_is_better'] for name in columns}
    assert directions == {'PSNR': True, 'LatentChannels': None, 'LatentKL': None, 'ActiveChannels': None,
                          'LatentNoise': True, 'LatentSpectrum': None, 'RotationEquivariance': False,
                          'ScaleEquivariance': False}
    lines = format_table(summary).splitlines()
    assert any(line.startswith('LatentKL  ') for line in lines)
    assert any(line.startswith('LatentNoise.0.1 ↑') for line in lines)
    assert 'LatentNoise' in summary.protocol


@pytest.mark.parametrize('name', list(LATENT))
def test_pictures_alone_are_refused(name):
    evaluator = ReconstructionEvaluator({name: LATENT[name]})
    with pytest.raises(ValueError, match='no (latents|latent_dist|autoencoder) here: this metric looks at a model'):
        evaluator.process('', [0], ['a.png'], torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
