"""The training model: it owns autoencoder, discriminator and losses. `train_step.py` says what an iteration does."""

import fnmatch
import inspect
import logging

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import nn

from wfvae_toolkit.checkpoints import plain_data
from wfvae_toolkit.datasets.extras import is_mask
from wfvae_toolkit.losses import AdversarialLoss, DiscriminatorStep, Loss
from wfvae_toolkit.models.discriminators import AugmentedDiscriminator
from wfvae_toolkit.models.discriminators.features import synchronise_batch_norms
from wfvae_toolkit.registry import (
    AUGMENTATIONS,
    AUTOENCODERS,
    DISCRIMINATORS,
    LATENT_TRANSFORMS,
    LOSSES,
    MODELS,
    find_part,
    unregistered_types,
    with_registered_names,
)
from wfvae_toolkit.utils.device import default_device
from wfvae_toolkit.utils.errors import SettingError, located
from wfvae_toolkit.utils.kinds import parameters_of

from .balance import KEYS, check_balance
from .objective import Outputs, autoencoder_objective, discriminator_objective
from .passes import AutoencoderPass, DiscriminatorPass, distribute
from .preprocessor import ImagePreprocessor
from .train_step import train_step

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}
TURNS = ('alternate', 'joint')


@MODELS.register_module()
class AutoencoderTraining(BaseModel):
    """Autoencoder and discriminator in alternate or joint turns.

    Args:
        autoencoder (dict): AUTOENCODERS config.
        losses (dict[str, dict | None]): named LOSSES configs; None leaves a row out.
        discriminator (dict): DISCRIMINATORS config, needed by an AdversarialLoss.
        discriminator_augmentation (dict): AUGMENTATIONS config: what is done to images and reconstructions before the
            discriminator sees them; None: nothing.
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
        latent_transforms (list[dict]): LATENT_TRANSFORMS configs, applied in order to the latents that the decoder gets
            in both turns; evaluation decodes without them.
        compile (dict): options of ``torch.compile`` for encoder and decoder (``{}``: its defaults); None: eager.

    Raises:
        SettingError: settings that cannot work together; the message names what would.
    """

    def __init__(self, autoencoder, losses, discriminator=None, turns='alternate', normalize=False, logvar=0.0,
                 learn_logvar=False, precision='fp32', freeze=(), compile=None, data_preprocessor=None,
                 latent_transforms=(), discriminator_augmentation=None):
        super().__init__(_preprocessor(data_preprocessor))
        for name, value, known in (('precision', precision, PRECISIONS), ('turns', turns, TURNS)):
            if value not in known:
                raise SettingError(f'{name}={value!r}: use one of {", ".join(known)}')
        self._build_autoencoder(autoencoder)
        self._build_losses(losses or {}, discriminator)
        self._build_discriminator(discriminator, discriminator_augmentation)
        self.likelihood_rows = self.losses[self.adversarial].balance if self.adversarial else ('pixel', 'perceptual')
        if learn_logvar:
            self.logvar = nn.Parameter(torch.tensor(float(logvar)))
        else:
            self.register_buffer('logvar', torch.tensor(float(logvar)), persistent=False)
        self.turns = turns
        self.normalize = normalize
        self.precision = precision
        # Derived from the iteration by DiscriminatorWarmupHook: whether the autoencoder's adversarial rows count,
        # and whether the discriminator trains.
        self.discriminator_started = True
        self.discriminator_trains = True
        _freeze(self, freeze)
        check_balance(self, known_rows=set(losses or ()))
        # Not submodules: their state is autoencoder's and discriminator's.
        object.__setattr__(self, '_plain_pass', AutoencoderPass(self.autoencoder, _build_transforms(latent_transforms)))
        object.__setattr__(self, '_passes', {'autoencoder': self._plain_pass})
        if self.discriminator is not None:
            self._passes['discriminator'] = DiscriminatorPass(self.discriminator)
        if compile is not None:
            _check_compile(compile)
            # The parts, not the turn: no graph breaks, and names in state dicts stay.
            self.autoencoder.encoder.compile(**compile)
            self.autoencoder.decoder.compile(**compile)

    def _build_autoencoder(self, autoencoder):
        with located('autoencoder'):
            # Checked now, written with every checkpoint, whose readers take registered names alone.
            self.autoencoder_config = plain_data(with_registered_names(autoencoder))
            self.autoencoder = AUTOENCODERS.build(autoencoder)
        for name in unregistered_types(self.autoencoder_config):
            print_log(f'model.autoencoder: {name} is registered under no name. The run trains and resumes, but no tool '
                      'can read its checkpoints; register the class, such as by @WAVELETS.register_module()',
                      'current', logging.WARNING)

    def _build_losses(self, losses, discriminator):
        self.losses = nn.ModuleDict()
        for name, cfg in losses.items():
            if cfg is not None:
                with located(f'losses.{name}'):
                    self.losses[name] = _build_loss(cfg, name)
        for name, loss in self.losses.items():
            with located(f'losses.{name}'):
                loss.check_autoencoder(self.autoencoder_config, self.autoencoder)
        if not self.losses:
            raise SettingError('losses: at least one row is needed, such as pixel=dict(type="L1Loss")')
        self.adversarial = _adversarial_row(self.losses)
        if self.adversarial and discriminator is None:
            raise SettingError(f'losses.{self.adversarial} needs model.discriminator, such as '
                               "dict(type='PatchDiscriminator'); set the row to None to train without")

    def _build_discriminator(self, discriminator, augmentation):
        with located('discriminator'):
            self.discriminator = DISCRIMINATORS.build(discriminator) if self.adversarial else None
            self.discriminator_augmentation = None if augmentation is None else AUGMENTATIONS.build(augmentation)
            if augmentation is not None and self.discriminator is None:
                raise SettingError('discriminator_augmentation needs a discriminator that trains: add an '
                                   'AdversarialLoss row')
        for name, row in self.discriminator_rows().items():
            with located(f'losses.{name}'):
                row.check(self.discriminator)

    def __getattr__(self, name):
        if name == 'update':
            raise AttributeError('model.update(turns, micro_batches, optimizers) is now '
                                 'model.train_step(micro_batches, optimizers, turns)')
        return super().__getattr__(name)

    def init_weights(self):
        """Nothing: layers are initialised where they are built, from torch's generator."""

    def distribute(self, **options):
        """Average gradients over the ranks of the default process group from now on; ``options`` go to DDP."""
        if self.discriminator is not None and default_device().type != 'cpu':
            # Statistics of batch norm over all ranks; torch has it for GPUs only.
            synchronise_batch_norms(self.discriminator)
        for name, network_pass in self._passes.items():
            if any(parameter.requires_grad for parameter in network_pass.parameters()):
                self._passes[name] = distribute(network_pass, **options)

    def network_pass(self, turn):
        """The module whose forward is ``turn``'s: AutoencoderPass, DiscriminatorPass, or DDP around it."""
        return self._passes[turn]

    def turns_of(self, iteration):
        """Which networks update number ``iteration`` trains, a tuple in the order of their turns.

        Alternate: the autoencoder on even ones, the discriminator on odd ones; joint: both. While the discriminator
        does not train, and without one, always the autoencoder alone.
        """
        if self.discriminator is None or not self.discriminator_trains:
            return ('autoencoder',)
        if self.turns == 'joint':
            return ('autoencoder', 'discriminator')
        return ('discriminator',) if iteration % 2 else ('autoencoder',)

    def train_step(self, data, optim_wrapper, turns=('autoencoder',)):
        """One update from a list of micro-batches, see ``train_step.train_step``; the arguments are MMEngine's."""
        return train_step(self, turns, data, optim_wrapper)

    # What a turn computes -------------------------------------------------------------------

    def reconstruct(self, images, seeds=None, sample_posterior=True, extras=None):
        """Encode and decode with gradients, and what the losses see of it.

        Args:
            images (Tensor): (B, 3, H, W) in [-1, 1].
            seeds (list[int]): one an image, fixing its noise; None: torch's generator.
            sample_posterior (bool): decode a sample of the posterior, else its mode.
            extras (dict): see ``Step.extras``.
        """
        again = self.autoencoder if any(loss.needs_autoencoder for loss in self.losses.values()) else None
        critic = self.discriminator
        if self.discriminator_augmentation is not None:
            critic = AugmentedDiscriminator(critic, self.discriminator_augmentation.drawn(images, seeds))
        with self.autocast():
            return Outputs(self._passes['autoencoder'](images, sample_posterior, seeds), images,
                           discriminator=critic, autoencoder=again, extras=extras or {},
                           seeds=None if seeds is None else tuple(seeds))

    def reconstruct_without_gradient(self, images, seeds=None, sample_posterior=True):
        """(B, 3, H, W) -> reconstruction (B, 3, H, W); arguments as in ``reconstruct``."""
        with torch.no_grad(), self.autocast():
            return self._plain_pass(images, sample_posterior, seeds)[0]

    def judge(self, images, reconstruction, seeds=None, extras=None):
        """Scores of images and of their reconstructions, with gradients of the discriminator.

        Args:
            images, reconstruction (Tensor): (B, 3, H, W), about [-1, 1].
            seeds (list[int]): one an image, fixing its augmentation; None: torch's generator.
            extras (dict): see ``Step.extras``; masks are left out if an augmentation moves pixels.

        Returns:
            DiscriminatorStep: what the rows of the discriminator see.
        """
        extras, masks = extras or {}, ()
        if self.discriminator_augmentation is not None:
            augment = self.discriminator_augmentation.drawn(images, seeds)
            images, reconstruction = augment(images), augment(reconstruction)
            if self.discriminator_augmentation.moves_pixels:
                masks = tuple(name for name, value in extras.items() if is_mask(value, images))
        extras = {name: value for name, value in extras.items() if name not in masks}
        if any(row.needs_image_gradient for row in self.discriminator_rows().values()):
            images, reconstruction = (x.detach().requires_grad_() for x in (images, reconstruction))
        with self.autocast():
            scores = self._passes['discriminator'](images, reconstruction)
        return DiscriminatorStep(images, reconstruction, *scores, self.discriminator, self.precision == 'fp32',
                                 None if seeds is None else tuple(seeds), extras, masks)

    def discriminator_rows(self):
        """Rows that train the discriminator beside the adversarial row, by name."""
        return {name: loss for name, loss in self.losses.items() if loss.trains == 'discriminator'}

    def autoencoder_turn(self, images, sample_posterior=True, sample_seeds=None, extras=None):
        """(loss, log) of the autoencoder on (B, 3, H, W) in [-1, 1]; no update. See ``autoencoder_objective``."""
        return autoencoder_objective(self, self.reconstruct(images, sample_seeds, sample_posterior, extras))

    def discriminator_turn(self, images, sample_posterior=True, sample_seeds=None, extras=None):
        """(loss, log) of the discriminator, without an update; see ``discriminator_objective``."""
        if self.discriminator is None:
            raise RuntimeError('discriminator_turn: this model has no adversarial loss row')
        fake = self.reconstruct_without_gradient(images, sample_seeds, sample_posterior)
        return discriminator_objective(self, self.judge(images, fake, sample_seeds, extras))

    def autocast(self, rows=False):
        """Context of the networks' arithmetic, or of the loss rows'."""
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


def _build_transforms(configs):
    transforms = []
    for number, cfg in enumerate(configs or ()):
        with located(f'latent_transforms.{number}'):
            transforms.append(LATENT_TRANSFORMS.build(cfg))
    return transforms


def _build_loss(cfg, name):
    kind = cfg.get('type')
    own = parameters_of(find_part(kind, LOSSES) if isinstance(kind, str) else kind) if kind else ()
    read_here = {key: cfg[key] for key in KEYS if key in cfg and key not in own}
    loss = LOSSES.build({key: value for key, value in cfg.items() if key not in read_here})
    if not isinstance(loss, Loss):
        raise SettingError(f'{type(loss).__name__} is no loss row: derive it from wfvae_toolkit.losses.Loss, whose '
                           'forward(step) returns a scalar, and whose weight a config sets')
    for key, value in read_here.items():
        setattr(loss, key, tuple(value) if key == 'balance' else value)
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


def _adversarial_row(losses):
    """Name of the adversarial row or None; SettingError where a row needs one and there is none."""
    rows = [name for name, loss in losses.items() if isinstance(loss, AdversarialLoss)]
    if len(rows) > 1:
        raise SettingError(f'losses: {" and ".join(rows)} are both adversarial; keep one')
    if not rows:
        waiting = [name for name, loss in losses.items() if loss.needs_discriminator]
        if waiting:
            raise SettingError(f'losses.{waiting[0]} needs a discriminator that trains: add an AdversarialLoss row')
        return None
    return rows[0]
