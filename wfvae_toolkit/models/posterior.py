"""The encoder's distribution over latents."""

import torch

# Beyond these exp(logvar) leaves float32's range in the KL term and its gradient.
LOGVAR_RANGE = (-30.0, 20.0)


class DiagonalGaussian:
    """Independent Gaussians, one a latent element; ``logvar`` clamped to [-30, 20].

    Args:
        mean, logvar (Tensor): (B, C, H, W).
    """

    def __init__(self, mean, logvar):
        self.mean = mean
        self.logvar = logvar.clamp(*LOGVAR_RANGE)

    @classmethod
    def from_moments(cls, moments):
        """(B, 2C, H, W), mean then logvar; computed in float32 at least."""
        return cls(*at_least_float32(moments).chunk(2, dim=1))

    @property
    def std(self):
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self):
        return torch.exp(self.logvar)

    def sample(self, generator=None, noise=None):
        """mean + std * noise; standard normal ``noise`` is drawn unless given."""
        if noise is None:
            device = self.mean.device if generator is None else generator.device
            noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean)

    def mode(self):
        return self.mean

    def kl(self):
        """(B, C, H, W) divergence from the standard normal, in nats."""
        return 0.5 * (self.mean.square() + self.var - 1.0 - self.logvar)


def at_least_float32(x):
    """bf16 and fp16 become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
