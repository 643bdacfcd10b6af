"""Distances of sets of vectors against torch-fidelity's and pytorch-fid's own functions, and their intervals."""

import json
import math

import numpy as np
import pytest
import torch

from wfvae_toolkit.evaluation.set_statistics import (
    BLOCKS,
    Moments,
    ReferenceStatistics,
    frechet_distance,
    frechet_without_blocks,
    kernel_distance,
    mean_kernel_distance,
    precision_and_recall,
    pseudo_values,
    sums_of,
)
from wfvae_toolkit.evaluation.statistics import block_interval
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_torch_fidelity


def sets(count, width, seed=0):
    """Two sets of correlated vectors, the second moved and scaled; float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    real = torch.randn(count, width, generator=generator, dtype=torch.float64) @ mix + 0.5
    noise = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return real, 0.9 * real + 0.3 * noise + 0.1


# the Frechet distance

def test_it_equals_torch_fidelity_s_and_pytorch_fid_s():
    real, made = sets(200, 24)
    fid = import_torch_fidelity('metric_fid')
    expected = fid.fid_statistics_to_metric(*map(fid.fid_features_to_statistics, (real, made)), verbose=False)
    distance = frechet_distance(Moments.of_rows(real), Moments.of_rows(made))
    assert distance == pytest.approx(expected[fid.KEY_METRIC_FID], abs=1e-6)
    # Of the trace of the matrix root, as pytorch-fid and its followers compute it.
    from scipy.linalg import sqrtm
    covariances = [np.cov(rows.numpy(), rowvar=False) for rows in (real, made)]
    shift = (real.mean(0) - made.mean(0)).numpy()
    root = sqrtm(covariances[0] @ covariances[1]).real
    by_root = shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distance == pytest.approx(by_root, abs=1e-6)


def test_fewer_images_than_features_need_no_root_of_a_singular_matrix():
    """Padded by constant features the distance is that of the features that vary."""
    real, made = sets(12, 5)
    expected = frechet_distance(Moments.of_rows(real), Moments.of_rows(made))
    wide = [torch.cat([rows, torch.zeros(12, 40)], 1) for rows in (real, made)]
    assert len(wide[0]) < wide[0].shape[1]
    assert frechet_distance(*map(Moments.of_rows, wide)) == pytest.approx(expected, abs=1e-9)


def test_two_gaussians_have_the_distance_of_the_formula():
    one, other = (Moments.of_covariance(9, torch.full((3,), mean), torch.eye(3, dtype=torch.float64) * std**2)
                  for mean, std in ((torch.tensor(0.0).double(), 1.0), (torch.tensor(2.0).double(), 3.0)))
    assert frechet_distance(one, other) == pytest.approx(3 * 2.0**2 + 3 * (3 - 1)**2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


def test_sums_and_rows_give_the_same_moments():
    real, _ = sets(40, 7)
    parts = [sums_of(rows.float()) for rows in real.split(11)]
    of_sums = Moments.of_sums(*(sum(column) for column in zip(*parts, strict=True)))
    of_rows = Moments.of_rows(real.float())
    assert of_sums.count == of_rows.count == 40
    assert torch.allclose(of_sums.mean, of_rows.mean, rtol=0, atol=1e-12)
    assert torch.allclose(of_sums.covariance, of_rows.covariance, rtol=0, atol=1e-12)
    assert torch.allclose(of_rows.covariance, real.float().double().T.cov(), rtol=0, atol=1e-12)


def test_the_jackknife_covers_19_times_in_20_and_pairs_two_models():
    """Over 100 sets of 60 images, of the mean distance at that number; of the difference of two models too."""
    generator = torch.Generator().manual_seed(0)
    values, halves, differences, of_pairs = [], [], [], []
    for _ in range(100):
        real = torch.randn(60, 3, generator=generator)
        made = [real + torch.randn(60, 3, generator=generator) + shift for shift in (0.3, 0.35)]
        scores = [frechet_distance(Moments.of_rows(real), Moments.of_rows(rows)) for rows in made]
        pseudo = [pseudo_values(score, frechet_without_blocks(real, rows))
                  for score, rows in zip(scores, made, strict=True)]
        values.append(scores[0])
        halves.append(block_interval(pseudo[0]))
        differences.append(scores[1] - scores[0])
        of_pairs.append(block_interval([b - a for a, b in zip(*pseudo, strict=True)]))
    for scores, intervals in ((values, halves), (differences, of_pairs)):
        mean = sum(scores) / len(scores)
        covered = sum(abs(score - mean) < half for score, half in zip(scores, intervals, strict=True))
        assert covered / 100 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 100))


def test_each_block_is_left_out_once():
    real, made = sets(23, 4)
    without = frechet_without_blocks(real, made)
    kept = [row for row in range(23) if row % BLOCKS != 3]
    assert len(without) == BLOCKS
    assert without[3] == pytest.approx(frechet_distance(Moments.of_rows(real[kept]), Moments.of_rows(made[kept])))
    fixed = frechet_without_blocks(Moments.of_rows(real), made)
    assert fixed[3] == pytest.approx(frechet_distance(Moments.of_rows(real), Moments.of_rows(made[kept])))


# the others

def test_the_kernel_distance_equals_torch_fidelity_s():
    real, made = sets(60, 8)
    theirs = import_torch_fidelity('metric_kid')
    options = dict(kid_subsets=5, kid_subset_size=20, kid_kernel='poly', kid_kernel_poly_degree=3,
                   kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1.0, rng_seed=2020, verbose=False)
    expected = theirs.kid_features_to_metric(made, real, **options)
    assert mean_kernel_distance(real, made, 5, 20) == pytest.approx(expected[theirs.KEY_METRIC_KID_MEAN], abs=1e-9)
    expected = theirs.kernel_mmd(real.numpy(), made.numpy(), **options)
    assert kernel_distance(real, made) == pytest.approx(expected, abs=1e-9)


def test_the_kernel_distance_is_unbiased():
    generator = torch.Generator().manual_seed(0)
    found = [kernel_distance(*torch.randn(2, 12, 4, generator=generator)) for _ in range(400)]
    assert abs(sum(found)) / 400 < 3 * np.std(found) / 20


def test_precision_and_recall_equal_torch_fidelity_s(monkeypatch):
    from wfvae_toolkit.evaluation import set_statistics

    real, made = (rows.float() for rows in sets(50, 6))
    made = torch.cat([made[:40], made[40:] + 5])
    theirs = import_torch_fidelity('metric_prc')
    expected = theirs.calculate_precision_recall_full(made, real, neighborhood=3)
    monkeypatch.setattr(set_statistics, 'CHUNK', 7)
    found = precision_and_recall(real, made)
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0 < found[0] < 1
    assert 0 < found[1] <= 1


# the file

def test_statistics_are_kept_with_how_they_were_made(tmp_path):
    real, _ = sets(30, 5)
    path = tmp_path / 'statistics.npz'
    ReferenceStatistics(Moments.of_rows(real), {'protocol': 'rae'}).write(path)
    found = ReferenceStatistics.read(path, 5)
    assert (found.moments.count, found.facts) == (30, {'protocol': 'rae'})
    assert torch.allclose(found.moments.covariance, real.T.cov(), rtol=0, atol=1e-12)
    with np.load(path) as file:  # as other projects read it
        assert np.allclose(file['mu'], real.mean(0))
        assert np.allclose(file['sigma'], np.cov(real.numpy(), rowvar=False))
        json.loads(str(file['facts']))


def test_statistics_of_another_project_say_nothing_of_how(tmp_path):
    path = tmp_path / 'theirs.npz'
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4))
    found = ReferenceStatistics.read(path, 4)
    assert (found.moments.count, found.facts) == (0, {})


@pytest.mark.parametrize(('content', 'message'), [
    (dict(mu=np.zeros(3), sigma=np.eye(3)), 'of vectors of 3 numbers; these features have 4'),
    (dict(mu=np.zeros(4)), 'no statistics with mu and sigma')])
def test_a_file_of_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / 'file.npz'
    np.savez(path, **content)
    with pytest.raises(SettingError, match=message):
        ReferenceStatistics.read(path, 4)
    path.write_bytes(b'PK damaged')
    with pytest.raises(SettingError, match='no statistics with mu and sigma'):
        ReferenceStatistics.read(path, 4)


