"""Evaluation, latents, tiling and export on a GPU against the CPU."""

import copy

import pytest
import torch

from tests.helpers import build_small, noise, trained_small
from tests.tolerances import of_network
from wfvae_toolkit.analysis.benchmark.untrained import UntrainedLPIPS
from wfvae_toolkit.checkpoints import to_onnx
from wfvae_toolkit.checkpoints.halves import make_halves
from wfvae_toolkit.datasets import build_dataloader, fixed_pipeline, open_images
from wfvae_toolkit.evaluation import ReconstructionEvaluator, evaluate
from wfvae_toolkit.evaluation.flat_fields import measure_flat_fields
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.latents import CachedLatents, CacheSettings, LatentCache
from wfvae_toolkit.latents.measure import measure_latents
from wfvae_toolkit.models.latent_statistics import LatentStatistics
from wfvae_toolkit.utils.device import default_device, find_device, peak_memory_bytes

pytestmark = pytest.mark.gpu

METRICS = dict(
    PSNR=dict(type='PSNR'), PooledPSNR=dict(type='PooledPSNR'), SSIM=dict(type='SSIM'),
    LPIPS=dict(type=UntrainedLPIPS), channels=dict(type='LatentChannels'), KL=dict(type='LatentKL'),
    active=dict(type='ActiveChannels'), spectrum=dict(type='LatentSpectrum'),
    rotation=dict(type='RotationEquivariance'), scale=dict(type='ScaleEquivariance'),
    noise=dict(type='LatentNoise'), by_channels=dict(type='PSNRByChannels', channels=[1, 2]))
WIDER = dict(widths=[32, 64, 64], flow_width=16, latent_channels=4)


def test_the_device_that_is_found(device):
    assert default_device().type == device.type
    assert find_device(device.type) == device
    assert peak_memory_bytes() > 0


def test_scores_are_those_of_the_cpu(device, photos):
    found = []
    for where in ('cpu', device):
        loader = build_dataloader(dict(batch_size=3, dataset=dict(
            type='ImageFolder', data_root=str(photos / 'train'))), training=False)
        # Not rounded to 8 bits: a rounding would become a level.
        evaluator = ReconstructionEvaluator(copy.deepcopy(METRICS), quantize=False)
        summary = evaluate({'': build_small().to(where)}, loader, evaluator, torch.device(where))
        found.append({name: row['mean'] for name, row in summary.metrics.items() if row['mean'] is not None})
    assert len(found[0]) >= len(METRICS)
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-4)


def test_reconstructions_are_those_of_the_cpu(device, photos):
    picture = next((photos / 'val').iterdir())
    cpu, ours = (Reconstructor(build_small(), device=where) for where in ('cpu', device))
    latents = ours.encode(picture)
    assert latents.device.type == device.type
    limit = of_network(ours.autoencoder)
    torch.testing.assert_close(latents.cpu(), cpu.encode(picture), rtol=limit, atol=limit)
    torch.testing.assert_close(ours.decode(latents).cpu(), cpu.decode(latents.cpu()), rtol=limit, atol=limit)
    generator = torch.Generator().manual_seed(0)
    assert ours.encode(picture, sample=True, generator=generator).isfinite().all()
    assert measure_flat_fields(ours.autoencoder, device=device)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype, device, photos):
    picture = next((photos / 'val').iterdir())
    exact, half = (Reconstructor(build_small(), device=device, dtype=kind) for kind in (torch.float32, dtype))
    expected = exact.decode(exact.encode(picture))
    assert (half.decode(half.encode(picture)) - expected).abs().max() < 0.1


def test_latent_statistics_are_those_of_the_cpu(device, photos):
    cpu, ours = (measure_latents(Reconstructor(build_small(), device=where), open_images(
        photos / 'train', fixed_pipeline(16)), batch_size=4) for where in ('cpu', device))
    for name in ('mean', 'std', 'std_of_means', 'kl'):
        assert getattr(ours, name) == pytest.approx(getattr(cpu, name), rel=1e-4, abs=1e-5)
    assert ours.active == cpu.active


@pytest.mark.parametrize('settings', [dict(flips=True), dict(what='sample', normalized=True, dtype='float16')])
def test_cached_latents_are_those_of_the_cpu(settings, device, photos, tmp_path):
    model, pipeline = trained_small(statistics=LatentStatistics((0.1, -0.25, 0.5), (1.5, 0.5, 2.0))), fixed_pipeline(16)
    found = []
    for where in ('cpu', device):
        data, folder = photos / 'train', tmp_path / f'cache_{len(found)}'
        LatentCache(model, Reconstructor(model.build(), device=where), open_images(data, pipeline), pipeline, 16,
                    folder, CacheSettings(shard_size=4, **settings), None, str(data)).fill(2)
        cached = CachedLatents(folder, random_flip=False, sample_posterior=False, normalize=False)
        found.append(torch.stack([cached[i]['latent'] for i in range(len(cached))]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-2 if 'dtype' in settings else 1e-4)


def test_tiles_of_a_picture_of_4096_px_are_the_whole(device):
    edge, tile = (4096, 1024) if device.type == 'cuda' else (256, 64)
    model = build_small(**WIDER).to(device).eval()
    images = noise(1, 3, edge, edge).mul_(0.3).clamp_(-1, 1).to(device)
    results = []
    with torch.inference_mode():
        for tiling in (None, dict(tile=tile)):
            if tiling:
                model.enable_tiling(**tiling)
                assert model.tiling_is_exact
            latents = model.encode(images).latent_dist.mode()
            results += [latents, model.decode(results[0] if results else latents).sample]
    limit = of_network(model)
    for whole, tiled in zip(results[:2], results[2:], strict=True):
        error = float((tiled - whole).abs().max() / whole.abs().max())
        print(f'{edge} px, tiles of {tile}: {error:.1e}')
        assert error < limit


def test_a_model_on_the_device_is_exported(device):
    model = build_small().to(device).eval()
    with torch.no_grad():
        for half in make_halves(model):
            program = torch.export.export(half.network, (half.argument,), strict=False,
                                          dynamic_shapes={half.argument_name: half.dynamic}).module()
            torch.testing.assert_close(program(half.argument), half.network(half.argument), rtol=1e-4, atol=1e-4)


def test_a_decoder_on_the_device_is_written_as_onnx(device, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    half = make_halves(build_small().to(device).eval())[1]
    to_onnx._export(half, tmp_path / 'decoder.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'decoder.onnx', providers=['CPUExecutionProvider'])
    image, = session.run(None, {half.argument_name: half.argument.cpu().numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(image), half.network(half.argument).cpu(), rtol=1e-4, atol=1e-4)
