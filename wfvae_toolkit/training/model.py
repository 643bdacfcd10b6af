"""The training model: one owner of autoencoder, discriminator and losses, with the two turns of the train step."""

import fnmatch
import inspect
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import nn

from wfvae_toolkit.checkpoints import plain_data
from wfvae_toolkit.losses import AdversarialLoss, Loss, balanced_weight, mean_score
from wfvae_toolkit.registry import (
    AUTOENCODERS,
    DISCRIMINATORS,
    LOSSES,
    MODELS,
    unregistered_types,
    with_registered_names,
)
from wfvae_toolkit.utils.distributed import average_over_ranks
from wfvae_toolkit.utils.errors import SettingError, located

from .objective import KnownGradient, Outputs, Row, check_loss_value, weighted_sum
from .passes import AutoencoderPass, DiscriminatorPass, distribute, gradient_sync
from .preprocessor import ImagePreprocessor

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}
SCHEMES = ('alternate', 'joint')
ACTIVE_KL_NATS = 0.01  # a latent channel below it carries nothing


@dataclass
class Update(Mapping):
    """Result of one iteration: detached scalars and vectors by name; ``skipped`` names what was not finite.

    As a mapping it is its scalars, which is what hooks of MMEngine expect of ``outputs``.
    """

    turns: tuple[str, ...]
    log: dict[str, torch.Tensor]
    skipped: str | None = None

    def __getitem__(self, name):
        return self.log[name]

    def __iter__(self):
        return (name for name, value in self.log.items() if value.ndim == 0)

    def __len__(self):
        return sum(1 for _ in self)


@MODELS.register_module()
class AutoencoderTraining(BaseModel):
    """Autoencoder and discriminator in alternate or joint turns.

    Args:
        autoencoder (dict): AUTOENCODERS config.
        losses (dict[str, dict | None]): named LOSSES configs; None leaves a row out.
        discriminator (dict): DISCRIMINATORS config, needed by an AdversarialLoss.
        turns (str): ``'alternate'``: an iteration trains one network; ``'joint'``: both on the same images, the
            discriminator on the autoencoder's reconstruction.
        normalize (bool): divide the autoencoder's total by C*H*W. The ratios of the terms stay, but
            gradient clipping and printed totals no longer grow with the image.
        logvar (float): s in nll = sum(rows of ``balance``) / exp(s) + s*C*H*W; without an adversarial row the rows are
            ``pixel`` and ``perceptual``.
        learn_logvar (bool): train s (rate ``optim_wrapper.logvar_lr``, no weight decay).
        precision (str): ``'fp32'``, ``'bf16'`` or ``'fp16'`` (autocast) of both turns; evaluation is float32. With
            fp16 the loss rows stay in float32 and each optimizer has its own gradient scaler.
        freeze (list[str]): patterns of parameter names that do not train, such as ``'autoencoder.encoder.*'``.
        compile (dict): options of ``torch.compile`` for encoder and decoder (``{}``: its defaults); None: eager.

    Raises:
        SettingError: settings that cannot work together; the message names what would.
    """

    def __init__(self, autoencoder, losses, discriminator=None, turns='alternate', normalize=False, logvar=0.0,
                 learn_logvar=False, precision='fp32', freeze=(), compile=None, data_preprocessor=None):
        super().__init__(_preprocessor(data_preprocessor))
        for name, value, known in (('precision', precision, PRECISIONS), ('turns', turns, SCHEMES)):
            if value not in known:
                raise SettingError(f'{name}={value!r}: one of {", ".join(known)}')
        with located('autoencoder'):
            # Checked now, written with every checkpoint, whose readers take registered names alone.
            self.autoencoder_config = plain_data(with_registered_names(autoencoder))
            self.autoencoder = AUTOENCODERS.build(autoencoder)
        for name in unregistered_types(self.autoencoder_config):
            print_log(f'model.autoencoder: {name} is registered under no name. The run trains and resumes, but no tool '
                      'can read its checkpoints; register the class, such as by @WAVELETS.register_module()',
                      'current', logging.WARNING)
        self.losses = nn.ModuleDict()
        for name, cfg in (losses or {}).items():
            if cfg is not None:
                with located(f'losses.{name}'):
                    self.losses[name] = _build_loss(cfg, name)
        for name, loss in self.losses.items():
            if hasattr(loss, 'check_student'):
                with located(f'losses.{name}'):
                    loss.check_student(self.autoencoder_config, self.autoencoder)
        if not self.losses:
            raise SettingError('losses: at least one row is needed, such as pixel=dict(type="L1Loss")')
        self.adversarial = _adversarial_row(self.losses, known_rows=set(losses))
        if self.adversarial and discriminator is None:
            raise SettingError(f'losses.{self.adversarial} needs model.discriminator, such as '
                               "dict(type='PatchDiscriminator'); set the row to None to train without")
        with located('discriminator'):
            self.discriminator = DISCRIMINATORS.build(discriminator) if self.adversarial else None
        self.likelihood_rows = self.losses[self.adversarial].balance if self.adversarial else ('pixel', 'perceptual')
        if learn_logvar:
            self.logvar = nn.Parameter(torch.tensor(float(logvar)))
        else:
            self.register_buffer('logvar', torch.tensor(float(logvar)), persistent=False)
        self.scheme = turns
        self.normalize = normalize
        self.precision = precision
        # Derived from the iteration by DiscriminatorWarmupHook: whether the autoencoder's adversarial rows count,
        # and whether the discriminator trains.
        self.discriminator_started = True
        self.discriminator_trains = True
        _freeze(self, freeze)
        # Not submodules: their state is autoencoder's and discriminator's.
        object.__setattr__(self, '_plain_pass', AutoencoderPass(self.autoencoder))
        object.__setattr__(self, '_passes', {'autoencoder': self._plain_pass})
        if self.discriminator is not None:
            self._passes['discriminator'] = DiscriminatorPass(self.discriminator)
        if compile is not None:
            _check_compile(compile)
            # The parts, not the turn: no graph breaks, and names in state dicts stay.
            self.autoencoder.encoder.compile(**compile)
            self.autoencoder.decoder.compile(**compile)

    def init_weights(self):
        """Nothing: layers are initialised where they are built, from torch's generator."""

    def distribute(self, **options):
        """Average gradients over the ranks of the default process group from now on; ``options`` go to DDP."""
        if self.discriminator is not None and torch.cuda.is_available():
            # Statistics of batch norm over all ranks; torch has it for GPUs only.
            nn.SyncBatchNorm.convert_sync_batchnorm(self.discriminator)
        for name, network_pass in self._passes.items():
            if any(parameter.requires_grad for parameter in network_pass.parameters()):
                self._passes[name] = distribute(network_pass, **options)

    def network_pass(self, turn):
        """The module whose forward is ``turn``'s: AutoencoderPass, DiscriminatorPass, or DDP around it."""
        return self._passes[turn]

    # turns ----------------------------------------------------------------------------------

    def turns(self, iteration):
        """Which networks update number ``iteration`` trains, a tuple in the order of their turns.

        Alternate: the autoencoder on even ones, the discriminator on odd ones; joint: both. While the discriminator
        does not train, and without one, always the autoencoder alone.
        """
        if self.discriminator is None or not self.discriminator_trains:
            return ('autoencoder',)
        if self.scheme == 'joint':
            return ('autoencoder', 'discriminator')
        return ('discriminator',) if iteration % 2 else ('autoencoder',)

    def autoencoder_turn(self, images, sample_posterior=True, sample_seeds=None, extras=None):
        """Loss and log of the autoencoder; ``loss.backward()`` fills gradients of its parameters alone.

        Args:
            images (Tensor): (B, 3, H, W) in [-1, 1].
            sample_posterior (bool): decode a sample of the posterior, else its mean.
            sample_seeds (list[int]): one an image, fixing its noise; None: torch's generator.
            extras (dict): see ``Step.extras``.

        Returns:
            tuple: scalar loss; dict of detached tensors: unweighted sums over an image under the names of the
            losses, ``per_pixel/NAME`` the same divided by C*H*W, ``adaptive_weight``, ``kl_channel`` (nats a position,
            one a latent channel), ``active_channels``, ``loss``.
        """
        loss, log, _ = self._autoencoder_turn(images, sample_posterior, sample_seeds, extras)
        return loss, log

    def discriminator_turn(self, images, sample_posterior=True, sample_seeds=None):
        """Loss and log of the discriminator; arguments as in ``autoencoder_turn``.

        The log holds ``discriminator`` and the mean scores of both kinds.
        """
        if self.discriminator is None:
            raise RuntimeError('discriminator_turn: this model has no adversarial loss row')
        with torch.no_grad(), self._autocast():
            fake = self._plain_pass(images, sample_posterior, sample_seeds)[0]
        return self._discriminator_turn(images, fake)

    def _autoencoder_turn(self, images, sample_posterior=True, sample_seeds=None, extras=None):
        again = self.autoencoder if any(loss.needs_autoencoder for loss in self.losses.values()) else None
        with self._autocast():
            outputs = Outputs(self._passes['autoencoder'](images, sample_posterior, sample_seeds), images,
                              discriminator=self.discriminator, autoencoder=again, extras=extras or {},
                              seeds=None if sample_seeds is None else tuple(sample_seeds))
        parameters = [parameter for network in (self.losses, again) if network is not None
                      for parameter in network.parameters() if parameter.requires_grad]
        # A row's graph (VGG features at 1024 px: gigabytes) is freed before the next row's is built, and the
        # networks behind the rows run backward once.
        rows = {name: Row(name, loss, outputs, parameters, self._autocast(rows=True))
                for name, loss in self.losses.items()
                if self.discriminator_started or not loss.needs_discriminator}
        precision = torch.exp(-self.logvar.detach())
        weights = {name: self.losses[name].weight * (precision if name in self.likelihood_rows else 1.0)
                   for name in rows}
        log = {}
        if self.adversarial in rows:
            weights[self.adversarial] = log['adaptive_weight'] = self._adaptive_weight(outputs, rows, weights)
        size = outputs.step.values_per_image
        scale = 1.0 / size if self.normalize else 1.0
        total = sum(weights[name] * row.value for name, row in rows.items()) + self.logvar.detach() * size
        gradients = [weighted_sum([(scale * weights[name], row.gradients[i]) for name, row in rows.items()])
                     for i in range(len(outputs.leaves) + len(parameters))]
        tensors = [*outputs.tensors, *parameters]
        if self.logvar.requires_grad:
            likelihood = sum(weights[name] * rows[name].value for name in self.likelihood_rows if name in rows)
            tensors.append(self.logvar)
            gradients.append(scale * (size - likelihood))
            log['logvar'] = self.logvar.detach().clone()
        loss = KnownGradient.apply(scale * total, gradients, *tensors)
        if not loss.requires_grad:
            raise SettingError('model.freeze leaves nothing of the autoencoder to train')
        for name, row in rows.items():
            log[name] = row.value
            if not self.losses[name].needs_discriminator:
                log[f'per_pixel/{name}'] = row.value / size
        log['kl_channel'] = outputs.step.latent_dist.kl().detach().mean((0, 2, 3))
        log['active_channels'] = _active(log['kl_channel'])
        log['loss'] = scale * total
        return loss, log, outputs.reconstruction.detach()

    def _discriminator_turn(self, images, fake):
        with self._autocast():
            real_scores, fake_scores = self._passes['discriminator'](images, fake)
        loss = self.losses[self.adversarial].discriminator_loss(real_scores, fake_scores)
        check_loss_value(loss, f'losses.{self.adversarial}: discriminator_loss')
        return loss, {'discriminator': loss.detach(), 'scores/real': mean_score(real_scores).detach(),
                      'scores/fake': mean_score(fake_scores).detach()}

    def update(self, turns, micro_batches, optim_wrapper):
        """One update of the weights of ``turns`` from their micro-batches.

        Args:
            turns (tuple[str]): of ``self.turns(iteration)``.
            micro_batches (list[Batch]): drawn for this iteration.
            optim_wrapper (OptimWrapperDict): one TurnOptimizer a turn.

        Returns:
            Update: the log is averaged over the micro-batches. If a gradient is not finite no weight changes, and
            ``skipped`` names the first term that went bad.
        """
        logs = []
        for number, batch in enumerate(micro_batches, 1):
            last = number == len(micro_batches)
            images = self.data_preprocessor(batch.images, training=True)
            log, fake = {}, None
            for turn in turns:
                with gradient_sync(self._passes[turn], last):
                    if turn == 'autoencoder':
                        extras = self.data_preprocessor.extras(batch.extras)
                        loss, turn_log, fake = self._autoencoder_turn(images, True, batch.seeds, extras)
                    elif fake is not None:
                        loss, turn_log = self._discriminator_turn(images, fake)
                    else:
                        loss, turn_log = self.discriminator_turn(images, sample_seeds=batch.seeds)
                    optim_wrapper[turn].backward(loss / len(micro_batches))
                log.update(turn_log)
            logs.append(log)
        if 'autoencoder' in turns:
            # Learnable losses stand outside DDP.
            outside = [*self.losses.parameters(), self.logvar]
            average_over_ranks([parameter.grad for parameter in outside if parameter.grad is not None])
        log = {name: torch.stack([log[name] for log in logs]).mean(0) for name in logs[0]}
        if 'kl_channel' in log:
            log['active_channels'] = _active(log['kl_channel'])
        norms = {f'gradient_norm/{turn}': optim_wrapper[turn].gradient_norm() for turn in turns}
        log.update(norms)
        finite = bool(torch.isfinite(torch.stack(list(norms.values()))).all())
        for turn in turns:
            optim_wrapper[turn].finish(finite)
        return Update(turns, log, None if finite else _first_not_finite(log))

    def _adaptive_weight(self, outputs, rows, weights):
        """Factor of the adversarial row, from both gradients at the decoder's last conv; equal on every rank."""
        row = self.losses[self.adversarial]
        if not row.balance:
            return torch.tensor(float(row.weight), device=outputs.reconstruction.device)
        balance = weighted_sum([(weights[name], rows[name].at_reconstruction) for name in row.balance if name in rows])
        if balance is None:
            raise SettingError(f'losses.{self.adversarial}.balance={row.balance}: none of these rows depends on the '
                               'reconstruction; balance=() gives a constant weight')
        at_last_layer = [self._at_last_layer(outputs.reconstruction, gradient)
                         for gradient in (balance, rows[self.adversarial].at_reconstruction)]
        # Averaged before the norm: then two ranks equal one process.
        average_over_ranks(at_last_layer)
        return row.weight * balanced_weight(*at_last_layer, row.max_ratio)

    def _at_last_layer(self, reconstruction, gradient):
        """Gradient at the reconstruction -> at the weight of the decoder's last conv."""
        weight = self.autoencoder.last_layer
        if self.precision != 'fp16':
            return torch.autograd.grad(reconstruction, weight, gradient, retain_graph=True)[0]
        # The weight's gradient is a sum over all pixels: at 672 px it was 3.5 times float16's limit, and the clamp of
        # the ratio hid the infinity. A power of two, so that it cancels without rounding.
        scale = torch.exp2((1024 / gradient.abs().sum().clamp(min=1e-20)).log2().floor())
        return torch.autograd.grad(reconstruction, weight, gradient * scale, retain_graph=True)[0] / scale

    def _autocast(self, rows=False):
        # Rows in fp16 would need a scale of their own: sums over 3e6 values leave its range both ways.
        dtype = None if rows and self.precision == 'fp16' else PRECISIONS[self.precision]
        return torch.autocast(self.data_preprocessor.device.type, dtype=dtype or torch.bfloat16,
                              enabled=dtype is not None)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """(B, 3, H, W) in [-1, 1] -> reconstruction through the posterior's mean."""
        return self.autoencoder.decode(self.autoencoder.encode(inputs).latent_dist.mode()).sample


def _preprocessor(cfg):
    if cfg is None:
        return ImagePreprocessor()
    with located('data_preprocessor'):
        preprocessor = MODELS.build(cfg) if isinstance(cfg, dict) else cfg
        if not isinstance(preprocessor, ImagePreprocessor):
            raise SettingError(f'{cfg!r}: ImagePreprocessor or a child of it is needed, which takes uint8 to [-1, 1]; '
                               'it has no mean and std')
    return preprocessor


def _build_loss(cfg, name):
    loss = LOSSES.build(cfg)
    if not isinstance(loss, Loss):
        raise SettingError(f'{type(loss).__name__} is no loss row: derive it from wfvae_toolkit.losses.Loss, whose '
                           'forward(step) returns a scalar, and whose weight a config sets')
    frozen = sum(parameter.numel() for parameter in loss.parameters() if not parameter.requires_grad)
    if frozen:
        print_log(f'losses.{name}: {frozen:,} frozen weights of {type(loss).__name__} go into every checkpoint; '
                  'self.network = wfvae_toolkit.losses.as_constant(network) keeps a network out of it',
                  'current', logging.WARNING)
    return loss


def _check_compile(options):
    known = [name for name in inspect.signature(torch.compile).parameters if name != 'model']
    if not isinstance(options, dict) or options.keys() - known:
        raise SettingError(f"compile={options!r}: use options of torch.compile ({', '.join(known)}), such as "
                           "dict(mode='max-autotune'), {} for its defaults, or None")


def _active(kl_channel):
    return (kl_channel > ACTIVE_KL_NATS).sum().float()


def _first_not_finite(log):
    """Name of the first term of a log that is not finite; a gradient's name if all values are."""
    # The weight follows from the rows' gradients, though it is logged before them.
    terms = sorted(log, key=lambda name: (name.startswith('gradient_norm/'), name == 'adaptive_weight'))
    return next(name for name in terms if not math.isfinite(log[name].sum().item()))


def _freeze(model, patterns):
    """Parameters whose names match stop training; SettingError for a pattern without a match."""
    names = dict(model.named_parameters())
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            parts = sorted({'.'.join(name.split('.')[:2]) for name in names})
            raise SettingError(f'freeze={pattern!r} matches no parameter; names start with {", ".join(parts)}')
        for name in matches:
            names[name].requires_grad_(False)
    if model.adversarial and model.losses[model.adversarial].balance and (
            not model.autoencoder.last_layer.requires_grad):
        raise SettingError("freeze covers the decoder's last layer, at which the adversarial weight is balanced; leave "
                           f'it out, or set losses.{model.adversarial}.balance=()')


def _adversarial_row(losses, known_rows):
    """Name of the adversarial row or None; checks its ``balance``."""
    rows = [name for name, loss in losses.items() if isinstance(loss, AdversarialLoss)]
    if len(rows) > 1:
        raise SettingError(f'losses: {" and ".join(rows)} are both adversarial; keep one')
    if not rows:
        waiting = [name for name, loss in losses.items() if loss.needs_discriminator]
        if waiting:
            raise SettingError(f'losses.{waiting[0]} needs a discriminator that trains: add an AdversarialLoss row')
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
