"""Works of the networks: encode, decode, forward, validation, and the turns of training."""

import importlib.util
from dataclasses import dataclass, replace

import torch

from wfvae_toolkit.checkpoints import read_model
from wfvae_toolkit.evaluation import ReconstructionEvaluator
from wfvae_toolkit.evaluation.run import reconstruct
from wfvae_toolkit.models.perceptual import PerceptualWeightsMissing
from wfvae_toolkit.models.perceptual.lpips import TRUNK_FILES
from wfvae_toolkit.models.perceptual.weights import find_trunk
from wfvae_toolkit.registry import AUTOENCODERS, MODELS
from wfvae_toolkit.training.model import PRECISIONS
from wfvae_toolkit.training.objective import autoencoder_objective, discriminator_objective
from wfvae_toolkit.utils.errors import SettingError

from ..kernels import saved_bytes
from .plain import PlainTurns, plain_autoencoder
from .untrained import UntrainedLPIPS, UntrainedLPIPSLoss

INFERENCE = ('encode', 'decode', 'forward', 'validation')
TURNS = ('autoencoder_turn', 'discriminator_turn', 'both_turns')
BASELINES = {
    # Stable Diffusion's autoencoder: 8x, 128-256-512-512, two layers.
    'AutoencoderKL': dict(type='DiffusersAutoencoderKL', latent_channels=4, widths=(128, 256, 512, 512), layers=2),
    # TAESD (github.com/madebyollin/taesd), with the latent channels of wfvae2-tiny.
    'AutoencoderTiny': dict(type='DiffusersAutoencoderTiny', latent_channels=8),
    # dc-ae-f32c32 (arXiv 2410.10733), in the size of its release.
    'AutoencoderDC': dict(
        type='DiffusersAutoencoderDC', in_channels=3, latent_channels=32, attention_head_dim=32,
        encoder_block_types=['ResBlock'] * 3 + ['EfficientViTBlock'] * 3,
        decoder_block_types=['ResBlock'] * 3 + ['EfficientViTBlock'] * 3,
        encoder_block_out_channels=[128, 256, 512, 512, 1024, 1024],
        decoder_block_out_channels=[128, 256, 512, 512, 1024, 1024],
        encoder_layers_per_block=[2, 2, 2, 3, 3, 3], decoder_layers_per_block=[3, 3, 3, 3, 3, 3],
        encoder_qkv_multiscales=[[], [], [], [5], [5], [5]], decoder_qkv_multiscales=[[], [], [], [5], [5], [5]],
        decoder_norm_types='rms_norm', decoder_act_fns='silu', upsample_block_type='interpolate'),
}


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Args:
        model (dict): the config's ``model``, ours.
        size (int): edge of the square images in px.
        batch (int): images.
        precision (str): 'fp32', 'bf16' or 'fp16' (autocast).
        device (torch.device): where.
        compile (bool): encoder and decoder of every model through torch.compile.
        imports (Sequence[str]): modules that register parts of the models; each process imports them.
    """

    model: dict
    size: int = 256
    batch: int = 1
    precision: str = 'fp32'
    device: torch.device = torch.device('cpu')
    compile: bool = False
    imports: tuple[str, ...] = ()

    def work(self, name, model):
        """``name`` of INFERENCE or TURNS, ``model`` 'ours', 'plain', one of BASELINES or a MODEL -> callable.

        ``model`` may end in ``@bf16`` or another precision of its own. ``both_turns`` are the two turns one after the
        other, an update of each network; of the model 'joint' they share images and reconstruction. ``validation`` is
        what an evaluation does with a batch: a forward pass in float32, then PSNR, SSIM and LPIPS (random weights).

        Raises:
            SettingError: a work or a model that is not known, or a pair that does not exist.
        """
        base, _, precision = model.rpartition('@')
        if precision in PRECISIONS:
            return replace(self, precision=precision).work(name, base)
        if name in INFERENCE:
            return self._inference(name, self._autoencoder(model))
        if name in TURNS:
            return self._turn(name, model)
        raise SettingError(f'work {name!r}: use one of {", ".join(INFERENCE + TURNS)}')

    def images(self):
        """(batch, 3, size, size) in [-1, 1], the same every time."""
        generator = torch.Generator().manual_seed(0)
        return (torch.rand(self.batch, 3, self.size, self.size, generator=generator) * 2 - 1).to(self.device)

    def _autoencoder(self, model):
        torch.manual_seed(0)
        if model in ('ours', 'plain'):
            autoencoder = AUTOENCODERS.build(self.model['autoencoder'])
            autoencoder = plain_autoencoder(autoencoder) if model == 'plain' else autoencoder
        elif model in BASELINES:
            autoencoder = AUTOENCODERS.build(BASELINES[model])
        else:
            autoencoder = read_model(model).build()
        return self._compiled(autoencoder.to(self.device).eval().requires_grad_(False))

    def _compiled(self, autoencoder):
        if self.compile:
            autoencoder.encoder.compile()
            autoencoder.decoder.compile()
        return autoencoder

    def _inference(self, name, autoencoder):
        images = self.images()
        if hasattr(autoencoder, 'disable_tiling'):
            autoencoder.disable_tiling()
        if name == 'validation':
            return self._validation(autoencoder, images)
        with torch.no_grad(), self._autocast():
            latents = autoencoder.encode(images).latent_dist.mode()

        def run():
            with torch.no_grad(), self._autocast():
                if name == 'encode':
                    return autoencoder.encode(images).latent_dist.mode()
                if name == 'decode':
                    return autoencoder.decode(latents).sample
                return autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample
        return run

    def _validation(self, autoencoder, images):
        evaluator = ReconstructionEvaluator(dict(
            PSNR=dict(type='PSNR'), SSIM=dict(type='SSIM'), LPIPS=dict(type=UntrainedLPIPS)))
        numbers = range(self.batch)

        @torch.no_grad()  # under inference_mode no kernel could be recorded
        def run():
            evaluator.reset()
            evaluator.process('', numbers, [f'{i}.png' for i in numbers], images, reconstruct(autoencoder, images)[1])
            return evaluator.summarize().rows
        return run

    def kept_bytes(self, model):
        """Most bytes that an autoencoder turn keeps for backward at one time, without parameters and buffers.

        Under autocast the weights' casts count.
        """
        base, _, precision = model.rpartition('@')
        if precision in PRECISIONS:
            return replace(self, precision=precision).kept_bytes(base)
        losses, modules, _ = self._losses(model)
        return saved_bytes(losses['autoencoder_turn'], modules)

    def _turn(self, name, model):
        if model == 'joint' and name != 'both_turns':
            raise SettingError(f"{name} of 'joint': this model has both_turns only")
        losses, networks, training = self._losses(model)
        images, seeds = self.images(), list(range(self.batch))

        def joint():
            outputs = training.reconstruct(images, seeds)
            autoencoder_objective(training, outputs)[0].backward()
            return discriminator_objective(training, training.judge(images, outputs.reconstruction.detach()))[0]

        steps = [joint] if model == 'joint' else list(losses.values()) if name == 'both_turns' else [losses[name]]

        def run():
            for step in steps:
                step().backward()
                for network in networks:
                    network.zero_grad(set_to_none=True)
        return run

    def _losses(self, model):
        """(turn -> function that gives its loss, the modules behind them, the training model)."""
        training = self.training_model('ours' if model == 'joint' else model)
        images, seeds = self.images(), list(range(self.batch))
        if model != 'plain':
            return {'autoencoder_turn': lambda: training.autoencoder_turn(images, sample_seeds=seeds)[0],
                    'discriminator_turn': lambda: training.discriminator_turn(images, sample_seeds=seeds)[0]}, [
                        training], training
        plain = PlainTurns(training)
        factor = training.autoencoder.downsample_factor
        noise = torch.randn(self.batch, training.autoencoder.latent_channels, self.size // factor, self.size // factor,
                            generator=torch.Generator().manual_seed(0)).to(self.device)
        return {'autoencoder_turn': lambda: plain.autoencoder_turn(images, noise),
                'discriminator_turn': lambda: plain.discriminator_turn(images, noise)}, [
                    plain.autoencoder, plain.discriminator, plain.losses], training

    def training_model(self, model):
        """The training model of a config's ``model`` around ours, or a baseline; ``'checkpointed'``: activations."""
        torch.manual_seed(0)
        cfg = {**self.model, 'precision': self.precision}
        cfg['losses'] = with_available_perceptual(cfg['losses'])
        if model in BASELINES:
            cfg['autoencoder'] = BASELINES[model]
            cfg['losses'] = {**cfg['losses'], 'wavelet': None}
        elif model == 'checkpointed':
            cfg['autoencoder'] = {**cfg['autoencoder'], 'checkpoint_activations': True}
        elif model not in ('ours', 'plain'):
            raise SettingError(f'{model!r} has no training turns; they exist for ours, plain, joint, checkpointed, '
                               f'{", ".join(BASELINES)}')
        training = MODELS.build(cfg).to(self.device).train()
        self._compiled(training.autoencoder)
        return training

    def _autocast(self):
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def with_available_perceptual(losses):
    """Losses whose perceptual rows have weights on this machine.

    LPIPS without its files becomes STLPIPS on the same trunk. STLPIPS without its package becomes LPIPS with random
    weights.
    """
    losses = dict(losses)
    row = losses.get('perceptual')
    if row is None or row['type'] not in ('LPIPSLoss', 'STLPIPSLoss'):
        return losses
    net = row.get('net', 'vgg' if row['type'] == 'LPIPSLoss' else 'alex')
    if row['type'] == 'LPIPSLoss' and not _has_trunk(net, row.get('trunk_weights')):
        row = losses['perceptual'] = dict(type='STLPIPSLoss', net=net, weight=row.get('weight', 1.0))
    if row['type'] == 'STLPIPSLoss' and importlib.util.find_spec('stlpips_pytorch') is None:
        losses['perceptual'] = {**row, 'type': UntrainedLPIPSLoss, 'net': net}
    return losses


def _has_trunk(net, trunk_weights):
    try:
        find_trunk(TRUNK_FILES[net], trunk_weights)
    except PerceptualWeightsMissing:
        return False
    return True
