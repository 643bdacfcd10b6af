import pytest
import torch

from wfvae_toolkit.evaluation import LPIPS, STLPIPS, EvaluationBatch
from wfvae_toolkit.models import perceptual


def test_measures_what_the_network_does():
    target, reconstruction = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    metric = STLPIPS(net='alex')
    expected = perceptual.STLPIPS('alex')(reconstruction * 2 - 1, target * 2 - 1)
    torch.testing.assert_close(metric.measure(EvaluationBatch(target, reconstruction)), expected)
    assert not metric.higher_is_better


def test_descriptions_never_call_stlpips_lpips(monkeypatch):
    monkeypatch.setattr(perceptual, 'LPIPS', lambda net, trunk_weights: perceptual.STLPIPS(net))
    assert LPIPS().description == 'LPIPS 0.1, AlexNet, not spatial'
    assert STLPIPS(net='alex').description == 'ST-LPIPS (shift-tolerant), AlexNet, not spatial'


def test_missing_weights_stop_the_constructor(tmp_path):
    with pytest.raises(perceptual.PerceptualWeightsMissing, match=r'absent\.pth'):
        LPIPS(trunk_weights=tmp_path / 'absent.pth')
