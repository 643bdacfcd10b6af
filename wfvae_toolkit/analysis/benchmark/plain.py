"""The plain formulation of the same mathematics: what our own is measured against.

Contiguous NCHW, convolved Haar, a materialised attention matrix, doubled maps before their convolution, every
intermediate kept for backward, and an objective whose perceptual network and
discriminator run backward twice: once for the balance at the decoder's last conv, once for the update. Same weights,
same numbers to rounding.
"""

import copy

import torch
import torch.nn.functional as F

from wfvae_toolkit.losses import DiscriminatorStep, Step, balanced_weight
from wfvae_toolkit.models.autoencoders.wfvae2 import Decoder, Encoder, EncoderStage, add_low
from wfvae_toolkit.models.discriminators import PatchDiscriminator
from wfvae_toolkit.models.layers import LayerNorm2d, NearestUpsample, ResidualBlock, SpatialAttention
from wfvae_toolkit.models.wavelets import Haar, Wavelet
from wfvae_toolkit.utils.errors import SettingError


class ConvolvedHaar(Wavelet):
    """Haar as convolutions with four 2x2 filters, and its inverse as transposed ones."""

    def __init__(self):
        super().__init__()
        signs = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
        self.register_buffer('filters', signs.reshape(4, 1, 1, 2, 2) / 2, persistent=False)

    def analyze(self, image):
        planes = image.reshape(-1, 1, *image.shape[2:])
        bands = [F.conv2d(planes, kernel.to(planes), stride=2) for kernel in self.filters]
        return torch.cat([band.reshape(len(image), -1, *band.shape[2:]) for band in bands], dim=1)

    def synthesize(self, bands):
        planes = [band.reshape(-1, 1, *band.shape[2:]) for band in bands.chunk(4, dim=1)]
        image = sum(F.conv_transpose2d(plane, kernel.to(plane), stride=2)
                    for plane, kernel in zip(planes, self.filters, strict=True))
        return image.reshape(len(bands), -1, *image.shape[2:])


class PlainLayerNorm2d(LayerNorm2d):
    def forward(self, x):
        pixels = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return pixels.permute(0, 3, 1, 2).contiguous()


class PlainSpatialAttention(SpatialAttention):
    def forward(self, x):
        h = self.norm(x)
        query, key, value = (project(h).flatten(2) for project in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key * x.shape[1]**-0.5, dim=-1)
        return x + self.out((value @ weights.transpose(1, 2)).reshape(x.shape))


class PlainResidualBlock(ResidualBlock):
    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.attention(self.conv2(self.dropout(F.silu(self.norm2(h)))))
        return self.shortcut(x) + h


class PlainNearestUpsample(NearestUpsample):
    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode='nearest'))


class PlainEncoder(Encoder):
    def features(self, pyramid):
        h = self.conv_in(pyramid[0])
        for stage, coefficients in zip(self.stages, pyramid[1:], strict=True):
            h = stage(h, coefficients)
        return h


class PlainEncoderStage(EncoderStage):
    def forward(self, h, coefficients):
        return self.out_block(torch.cat([self.downsample(self.blocks(h)), self.flow_in(coefficients)], dim=1))


class PlainDecoder(Decoder):
    def forward(self, z):
        bands, low = [], None
        for level in self.details(self.mid(self.conv_in(z))):
            bands.append(add_low(level, low))
            low = self.wavelet.synthesize(bands[-1])
        return low, tuple(bands[:-1])


class PlainPatchDiscriminator(PatchDiscriminator):
    def features(self, images):
        outputs = [images]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            outputs.append(self.activation(norm(conv(outputs[-1]))))
        return [*outputs[1:], self.score(outputs[-1])]


_PLAIN = {LayerNorm2d: PlainLayerNorm2d, ResidualBlock: PlainResidualBlock, NearestUpsample: PlainNearestUpsample,
          SpatialAttention: PlainSpatialAttention, Encoder: PlainEncoder, EncoderStage: PlainEncoderStage,
          Decoder: PlainDecoder, PatchDiscriminator: PlainPatchDiscriminator}


def plain_autoencoder(autoencoder):
    """A copy of a WFVAE2Image with the same weights in the plain formulation.

    Raises:
        SettingError: it has parts that the plain formulation was not written for (another wavelet, no energy flow,
            latent shortcuts).
    """
    plain = copy.deepcopy(autoencoder)
    if type(plain.encoder) is not Encoder or plain.encoder.latent_shortcuts or \
            any(stage.flow_in is None for stage in plain.encoder.stages):
        raise SettingError('the plain formulation supports WFVAE2Image with energy flow and without latent shortcuts')
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Wavelet):
                if type(child) is not Haar:
                    raise SettingError(f'the plain formulation supports the wavelet Haar, not {type(child).__name__}')
                setattr(module, name, ConvolvedHaar())
    return _reclass(plain)


def _reclass(network):
    for module in network.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
    return network.to(memory_format=torch.contiguous_format)


class PlainTurns:
    """Both turns of a training model in the plain formulation, on copies of its networks.

    Args:
        model (AutoencoderTraining): with an adversarial row.
    """

    def __init__(self, model):
        self.autoencoder = plain_autoencoder(model.autoencoder)
        self.discriminator = _reclass(copy.deepcopy(model.discriminator))
        self.losses = copy.deepcopy(model.losses).to(memory_format=torch.contiguous_format)
        self.adversarial = model.adversarial
        self.likelihood_rows = model.likelihood_rows
        self.autocast = model.autocast
        self.normalize = model.normalize

    def _outputs(self, images, noise):
        encoded = self.autoencoder.encode(images)
        latents = encoded.latent_dist.sample(noise=noise)
        return encoded, latents, self.autoencoder.decode(latents)

    def autoencoder_turn(self, images, noise):
        """(B, 3, H, W) in [-1, 1] and noise of the latents' shape -> loss; call backward() on it."""
        with self.autocast():
            encoded, latents, decoded = self._outputs(images, noise)
            step = Step(target=images, reconstruction=decoded.sample, latent_dist=encoded.latent_dist,
                        latents=latents, encoder_bands=encoded.bands, decoder_bands=decoded.bands,
                        discriminator=self.discriminator.requires_grad_(False))
            rows = {name: loss(step) for name, loss in self.losses.items()}
        weights = {name: self.losses[name].weight for name in rows}
        likelihood = sum(weights[name] * rows[name] for name in self.likelihood_rows)
        last_layer = self.autoencoder.last_layer
        at_last_layer = [torch.autograd.grad(value, last_layer, retain_graph=True)[0]
                         for value in (likelihood, rows[self.adversarial])]
        row = self.losses[self.adversarial]
        weights[self.adversarial] = row.weight * balanced_weight(*at_last_layer, row.max_ratio)
        total = sum(weights[name] * value for name, value in rows.items())
        return total / images[0].numel() if self.normalize else total

    def discriminator_turn(self, images, noise):
        """As ``autoencoder_turn``, for the discriminator."""
        with torch.no_grad(), self.autocast():
            fake = self._outputs(images, noise)[2].sample
        with self.autocast():
            self.discriminator.requires_grad_(True)
            scores = self.discriminator(images.contiguous()), self.discriminator(fake.contiguous())
        return self.losses[self.adversarial].discriminator_loss(
            DiscriminatorStep(images, fake, *scores, self.discriminator))


