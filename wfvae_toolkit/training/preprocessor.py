"""From the bytes that leave the workers to what the network takes."""

import torch
from mmengine.model import BaseDataPreprocessor

from wfvae_toolkit.datasets.extras import map_tensors
from wfvae_toolkit.registry import MODELS


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """uint8 (B, 3, H, W) in [0, 255] -> float32 in [-1, 1] on the model's device.

    uint8 crosses to the device: a quarter of the bytes.
    """

    def forward(self, images, training=False):
        return images.to(self.device, non_blocking=True).to(torch.float32).div_(127.5).sub_(1.0)

    def extras(self, extras):
        """Extra fields of a batch, their tensors on the model's device."""
        return map_tensors(lambda tensor: tensor.to(self.device, non_blocking=True), extras)
