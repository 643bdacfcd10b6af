import pytest
import torch

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.losses.base import sum_per_image


def test_sum_per_image_is_averaged_over_the_batch():
    x = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 0.0]]])
    assert sum_per_image(x).item() == 5.0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_large_images_do_not_overflow_or_stop_counting(dtype):
    total = sum_per_image(torch.ones(1, 3, 256, 256, dtype=dtype))
    assert total.dtype == torch.float32
    assert total.item() == 3 * 256 * 256


def test_float64_stays():
    assert sum_per_image(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64


def test_values_per_image(make_step):
    assert make_step().values_per_image == 48


def test_weight_is_the_owners_business(make_step):
    class Constant(Loss):
        def forward(self, step):
            return step.target.sum() + 3

    assert Constant(weight=0.25).weight == 0.25
    assert Constant(weight=0.25)(make_step()).item() == 3
    assert not Constant().state_dict()
