import torch

from wfvae_toolkit.training.preprocessor import ImagePreprocessor


def test_bytes_become_the_range_of_the_network():
    images = ImagePreprocessor()(torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256))
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (-1, 1)
    steps = images[0, 0, 0].diff()
    torch.testing.assert_close(steps, torch.full((255,), 2 / 255))


def test_extra_fields_keep_their_values():
    extras = dict(mask=torch.tensor([[0, 255]], dtype=torch.uint8), caption=['a cat'])
    moved = ImagePreprocessor().extras(extras)
    assert torch.equal(moved['mask'], extras['mask'])
    assert moved['mask'].dtype == torch.uint8
    assert moved['caption'] == ['a cat']
