"""The training model: one owner of autoencoder, discriminator and losses, with the two turns of the train step."""

import torch
from mmengine.model import BaseModel
from torch import nn

from wfvae_toolkit.checkpoints import plain_data
from wfvae_toolkit.losses import AdversarialLoss, Step, balanced_weight
from wfvae_toolkit.models.posterior import DiagonalGaussian
from wfvae_toolkit.registry import AUTOENCODERS, DISCRIMINATORS, LOSSES, MODELS
from wfvae_toolkit.utils.distributed import average_over_ranks
from wfvae_toolkit.utils.errors import SettingError

from .passes import AutoencoderPass, DiscriminatorPass, KnownGradient, distribute, gradient_sync

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16}


@MODELS.register_module()
class AutoencoderTraining(BaseModel):
    """Autoencoder and discriminator in alternate turns.

    Args:
        autoencoder (dict): AUTOENCODERS config.
        losses (dict[str, dict | None]): named LOSSES configs; None leaves a row out.
        discriminator (dict): DISCRIMINATORS config, needed by an AdversarialLoss.
        normalize (bool): divide the autoencoder's total by C*H*W. The ratios of the terms stay, but
            gradient clipping and printed totals no longer grow with the image.
        precision (str): ``'fp32'`` or ``'bf16'`` (autocast) of both turns; evaluation is float32.

    Raises:
        ValueError: an adversarial row without a discriminator, an unknown row in ``balance`` or precision.
    """

    def __init__(self, autoencoder, losses, discriminator=None, normalize=False, precision='fp32',
                 data_preprocessor=None):
        super().__init__(data_preprocessor or dict(type='wfvae_toolkit.ImagePreprocessor'))
        if precision not in PRECISIONS:
            raise SettingError(f'precision={precision!r}: one of {", ".join(PRECISIONS)}')
        self.autoencoder_config = plain_data(autoencoder)  # checked now, written with every checkpoint
        self.autoencoder = AUTOENCODERS.build(autoencoder)
        self.losses = nn.ModuleDict({name: LOSSES.build(cfg) for name, cfg in losses.items() if cfg is not None})
        if not self.losses:
            raise SettingError('losses: at least one row is needed, such as pixel=dict(type="L1Loss")')
        self.adversarial = _adversarial_row(self.losses, known_rows=set(losses))
        if self.adversarial and discriminator is None:
            raise SettingError(f'losses.{self.adversarial} needs model.discriminator, such as '
                               "dict(type='PatchDiscriminator'); set the row to None to train without")
        self.discriminator = DISCRIMINATORS.build(discriminator) if self.adversarial else None
        self.normalize = normalize
        self.precision = precision
        # Whether adversarial terms count yet; DiscriminatorWarmupHook derives it from the iteration.
        self.discriminator_started = True
        # Not submodules: their state is autoencoder's and discriminator's.
        object.__setattr__(self, '_plain_pass', AutoencoderPass(self.autoencoder))
        object.__setattr__(self, '_passes', {'autoencoder': self._plain_pass})
        if self.discriminator is not None:
            self._passes['discriminator'] = DiscriminatorPass(self.discriminator)

    def init_weights(self):
        """Nothing: layers are initialised where they are built, from torch's generator."""

    def distribute(self, **options):
        """Average gradients over the ranks of the default process group from now on; ``options`` go to DDP."""
        for name, network_pass in self._passes.items():
            self._passes[name] = distribute(network_pass, **options)

    # turns ----------------------------------------------------------------------------------

    def turn(self, iteration):
        """Which network update number ``iteration`` trains: the autoencoder on even ones, the other on odd ones.

        Before the discriminator's start, and without one, always the autoencoder.
        """
        return 'discriminator' if self.discriminator_active and iteration % 2 else 'autoencoder'

    @property
    def discriminator_active(self):
        return self.discriminator is not None and self.discriminator_started

    def autoencoder_turn(self, images, sample_posterior=True, sample_seeds=None):
        """Loss and log of the autoencoder; ``loss.backward()`` fills gradients of its parameters alone.

        Args:
            images (Tensor): (B, 3, H, W) in [-1, 1].
            sample_posterior (bool): decode a sample of the posterior, else its mean.
            sample_seeds (list[int]): one an image, fixing its noise; None: torch's generator.

        Returns:
            tuple: scalar loss; dict of detached scalars, unweighted sums over an image under the names of the
            losses, ``per_pixel/NAME`` the same divided by C*H*W, ``adaptive_weight``, ``loss``.
        """
        with self._autocast():
            outputs = self._passes['autoencoder'](images, sample_posterior, sample_seeds)
        graph, step = _cut(outputs, images, self.discriminator)
        parameters = [parameter for parameter in self.losses.parameters() if parameter.requires_grad]
        variables = [*graph.leaves, *parameters]
        values, gradients = {}, {}
        # Each row is differentiated at once, so that its graph (VGG features at 1024 px: gigabytes) is freed
        # before the next row's is built, and the networks behind the rows run backward once.
        for name, loss in self.losses.items():
            if name == self.adversarial and not self.discriminator_active:
                continue
            with self._autocast():
                value = loss(step)
            values[name] = value.detach()
            gradients[name] = torch.autograd.grad(value, variables, allow_unused=True)
        weights = {name: self.losses[name].weight for name in values}
        log = {}
        if self.adversarial in values:
            weights[self.adversarial] = log['adaptive_weight'] = self._adaptive_weight(graph, gradients)
        scale = 1.0 / step.values_per_image if self.normalize else 1.0
        total = scale * sum(weights[name] * values[name] for name in values)
        combined = [_weighted_sum([(scale * weights[name], gradients[name][i]) for name in values])
                    for i in range(len(variables))]
        loss = KnownGradient.apply(total, combined, *graph.tensors, *parameters)
        for name, value in values.items():
            log[name] = value
            if name != self.adversarial:
                log[f'per_pixel/{name}'] = value / step.values_per_image
        log['loss'] = total
        return loss, log

    def discriminator_turn(self, images, sample_posterior=True, sample_seeds=None):
        """Loss and log of the discriminator; arguments as in ``autoencoder_turn``.

        The log holds ``discriminator`` and the mean scores of both kinds.
        """
        if self.discriminator is None:
            raise RuntimeError('discriminator_turn: this model has no adversarial loss row')
        with torch.no_grad(), self._autocast():
            fake = self._plain_pass(images, sample_posterior, sample_seeds)[0]
        with self._autocast():
            real_scores, fake_scores = self._passes['discriminator'](images, fake)
        loss = self.losses[self.adversarial].discriminator_loss(real_scores, fake_scores)
        return loss, {'discriminator': loss.detach(), 'scores/real': real_scores.detach().mean(),
                      'scores/fake': fake_scores.detach().mean()}

    def update(self, turn, micro_batches, optim_wrapper):
        """One update of the weights of ``turn`` from its micro-batches; returns the log, averaged over them.

        Args:
            turn (str): ``'autoencoder'`` or ``'discriminator'``.
            micro_batches (list[Batch]): drawn for this iteration.
            optim_wrapper (OptimWrapperDict): one optimizer a turn.
        """
        network_pass = self._passes[turn]
        optimizer = optim_wrapper[turn]
        logs = []
        for number, batch in enumerate(micro_batches, 1):
            with gradient_sync(network_pass, last_micro_batch=number == len(micro_batches)):
                images = self.data_preprocessor(batch.images, training=True)
                loss, log = getattr(self, f'{turn}_turn')(images, sample_seeds=batch.seeds)
                optimizer.backward(loss / len(micro_batches))
            logs.append(log)
        if turn == 'autoencoder':
            # Learnable losses stand outside DDP.
            average_over_ranks([p.grad for p in self.losses.parameters() if p.grad is not None])
        optimizer.step()
        optimizer.zero_grad()
        mean_log = {name: torch.stack([log[name] for log in logs]).mean() for name in logs[0]}
        if optimizer.last_gradient_norm is not None:
            mean_log[f'gradient_norm/{turn}'] = optimizer.last_gradient_norm
        return mean_log

    def _adaptive_weight(self, graph, gradients):
        """Factor of the adversarial row, from both gradients at the decoder's last conv; equal on every rank."""
        row = self.losses[self.adversarial]
        if not row.balance:
            return torch.tensor(float(row.weight), device=graph.reconstruction.device)
        balance = _weighted_sum([(self.losses[name].weight, gradients[name][graph.reconstruction_index])
                                 for name in row.balance if name in gradients])
        if balance is None:
            raise SettingError(f'losses.{self.adversarial}.balance={row.balance}: none of these rows depends on the '
                               'reconstruction; balance=() gives a constant weight')
        at_last_layer = [
            torch.autograd.grad(graph.reconstruction, self.autoencoder.last_layer, gradient, retain_graph=True)[0]
            for gradient in (balance, gradients[self.adversarial][graph.reconstruction_index])]
        # Averaged before the norm: then two ranks equal one process.
        average_over_ranks(at_last_layer)
        return row.weight * balanced_weight(*at_last_layer, row.max_ratio)

    def _autocast(self):
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.data_preprocessor.device.type, dtype=dtype or torch.bfloat16,
                              enabled=dtype is not None)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """(B, 3, H, W) in [-1, 1] -> reconstruction through the posterior's mean."""
        return self.autoencoder.decode(self.autoencoder.encode(inputs).latent_dist.mode()).sample


class _Graph:
    """The network's outputs as graph tensors and, at the same places, as leaves for the losses."""

    reconstruction_index = 0

    def __init__(self, tensors):
        self.tensors = tensors
        self.leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        self.reconstruction = tensors[0]


def _cut(outputs, images, discriminator):
    """Outputs of AutoencoderPass -> graph and the Step made of its leaves."""
    *single, encoder_bands, decoder_bands = outputs
    graph = _Graph([*single, *encoder_bands, *decoder_bands])
    reconstruction, mean, logvar, latents, *bands = graph.leaves
    return graph, Step(target=images, reconstruction=reconstruction, latent_dist=DiagonalGaussian(mean, logvar),
                       latents=latents, encoder_bands=tuple(bands[:len(encoder_bands)]),
                       decoder_bands=tuple(bands[len(encoder_bands):]), discriminator=discriminator)


def _weighted_sum(terms):
    """[(factor, tensor or None)] -> sum of the tensors there are, or None."""
    total = None
    for factor, tensor in terms:
        if tensor is not None:
            total = tensor * factor if total is None else total.add_(tensor * factor)
    return total


def _adversarial_row(losses, known_rows):
    """Name of the adversarial row or None; checks its ``balance``."""
    rows = [name for name, loss in losses.items() if isinstance(loss, AdversarialLoss)]
    if len(rows) > 1:
        raise SettingError(f'losses: {" and ".join(rows)} are both adversarial; keep one')
    if not rows:
        return None
    balance = losses[rows[0]].balance
    unknown = set(balance) - known_rows | set(balance) & set(rows)
    if unknown:
        raise SettingError(f'losses.{rows[0]}.balance names {", ".join(sorted(unknown))}; rows: '
                           f'{", ".join(sorted(known_rows - set(rows)))}')
    if balance and not set(balance) & set(losses):
        raise SettingError(f'losses.{rows[0]}.balance={balance}: every row in it is None; name one that is there, '
                           'or balance=() for a constant weight')
    return rows[0]
