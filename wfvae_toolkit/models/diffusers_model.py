"""WFVAE2Image as a diffusers model (extra ``diffusers``), for use as the ``vae`` of a pipeline.

The ``model_index.json`` of a pipeline names this module. ``save_pretrained`` also writes the module's source; see
``modelling_file``.
"""

import warnings
from pathlib import Path

import torch

from wfvae_toolkit.registry import (
    CHANNEL_ATTENTIONS,
    DOWNSAMPLERS,
    MID_BLOCKS,
    NORM_LAYERS,
    POSTERIORS,
    UPSAMPLERS,
    WAVELETS,
    unregistered_types,
)
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_diffusers

from .autoencoders.wfvae2 import DEFAULT_MID, IMAGE_CHANNELS, WFVAE2Image
from .modelling_file import MODELLING_FILE, modelling_source
from .posterior import DiagonalGaussian
from .tiling import ATTENTION_POSITIONS

import_diffusers()  # first: its error names the extra, and diffusers alone cannot import every build of torchvision
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.autoencoders import vae as diffusers_vae
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook

PART_REGISTRIES = (CHANNEL_ATTENTIONS, DOWNSAMPLERS, MID_BLOCKS, NORM_LAYERS, POSTERIORS, UPSAMPLERS, WAVELETS)


class AutoencoderWFVAE2(WFVAE2Image, diffusers_vae.AutoencoderMixin, ModelMixin, ConfigMixin, PeftAdapterMixin):
    """(B, 3, H, W) in [-1, 1] <-> raw latents (B, latent_channels, H/f, W/f); same weights and keys as WFVAE2Image.

    A pipeline scales latents itself, with the settings that it reads from the config. With all four settings below,
    normalised = ((raw - latents_mean) / latents_std - shift_factor) * scaling_factor.

    The methods of AutoencoderKL work here, or raise an error that says why not; ``add_adapter`` needs peft.

    Args:
        latent_channels ... output_activation: see ``WFVAE2Image``; parts by their registered names.
        block_out_channels (list[int]): channels at full size, half, ..., 1/f, from which pipelines compute f; follows
            from ``widths``.
        scaling_factor (float): see above.
        shift_factor (float): see above.
        latents_mean, latents_std (list[float]): one value per latent channel; None: 0 and 1.
        force_upcast (bool): a pipeline in float16 decodes in float32.
        in_channels, out_channels (int): 3.
        sample_size (int): edge of a tile in px, if pictures are tiled.
        posterior (dict): as of ``WFVAE2Image``.

    Raises:
        SettingError: settings that cannot work, or a part that is in no registry; the message says what would work.
    """

    _supports_gradient_checkpointing = True
    # The forward pass of these modules combines early and late features, so each module stays on one device.
    _no_split_modules = ('Encoder', 'Decoder')

    @register_to_config
    def __init__(self, latent_channels=8, widths=(128, 256, 512), decoder_widths=None, encoder_layers=2,
                 decoder_layers=2, energy_flow=True, flow_width=128, decoder_flow_width=None, wavelet=None, norm=None,
                 mid_blocks=DEFAULT_MID, dropout=0.0, channel_attention=None, downsample=None, upsample=None,
                 latent_shortcuts=False, output_activation=False, block_out_channels=None, scaling_factor=1.0,
                 shift_factor=0.0, latents_mean=None, latents_std=None, force_upcast=True, in_channels=IMAGE_CHANNELS,
                 out_channels=IMAGE_CHANNELS, sample_size=512, posterior=None):
        parts = dict(wavelet=wavelet, norm=norm, mid_blocks=mid_blocks, channel_attention=channel_attention,
                     downsample=downsample, upsample=upsample, posterior=posterior)
        unregistered = unregistered_types(parts, PART_REGISTRIES)
        if unregistered:
            raise SettingError(f'no registry holds {unregistered[0]!r}; import the plug-in that registers it first')
        super().__init__(latent_channels, widths, decoder_widths, encoder_layers, decoder_layers, energy_flow,
                         flow_width, decoder_flow_width, dropout=dropout, latent_shortcuts=latent_shortcuts,
                         output_activation=output_activation, **parts)
        expected = (IMAGE_CHANNELS, *widths)
        if tuple(block_out_channels or expected) != expected:
            raise SettingError(f'block_out_channels={block_out_channels!r}: widths={widths!r} give {expected}')
        if (in_channels, out_channels) != (IMAGE_CHANNELS, IMAGE_CHANNELS):
            raise SettingError(f'in_channels={in_channels}, out_channels={out_channels}: images have {IMAGE_CHANNELS}')
        for name, values in (('latents_mean', latents_mean), ('latents_std', latents_std)):
            if values is not None and len(values) != latent_channels:
                raise SettingError(f'{len(values)} values in {name} for {latent_channels} latent channels')
        self.register_to_config(block_out_channels=expected)
        if wavelet is not None:
            self.register_to_config(wavelet={**wavelet, **self.encoder.wavelet.travelling_settings()})

    @apply_forward_hook
    def encode(self, x, return_dict=True):
        """(B, 3, H, W) -> ``latent_dist`` of raw latents in the model's dtype. SettingError unless f divides H, W.

        Of a Gaussian it is diffusers' DiagonalGaussianDistribution, of other posteriors their own distribution.
        """
        posterior = super().encode(x).latent_dist
        if isinstance(posterior, DiagonalGaussian):
            parameters = torch.cat([posterior.mean, posterior.logvar], dim=1).to(self.dtype)
            posterior = diffusers_vae.DiagonalGaussianDistribution(parameters)
        else:
            posterior = posterior.replace([tensor.to(self.dtype) for tensor in posterior.tensors])
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z, return_dict=True, generator=None):
        """Raw latents -> ``sample`` (B, 3, H, W), about [-1, 1], in float32 or wider; ``generator`` has no effect."""
        sample = super().decode(z).sample
        return diffusers_vae.DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample, sample_posterior=False, return_dict=True, generator=None):
        """Reconstruct (B, 3, H, W) from the posterior's mean, or from a sample of it if ``sample_posterior``."""
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.sample(generator) if sample_posterior else posterior.mode(), return_dict)

    @property
    def spatial_compression_ratio(self):
        """The factor f."""
        return self.downsample_factor

    def enable_tiling(self, tile=None, above_pixels=0, attention_window=ATTENTION_POSITIONS):
        """See ``TilingControls``; tiles of ``sample_size`` by default. True or False as first argument: on or off."""
        if tile is False:
            self.disable_tiling()
        else:
            default = tile is None or tile is True
            super().enable_tiling(self.config.sample_size if default else tile, above_pixels, attention_window)

    @property
    def use_tiling(self):
        """Whether tiling is on."""
        return self.tiling is not None

    @use_tiling.setter
    def use_tiling(self, enabled):
        self.enable_tiling(bool(enabled))

    @property
    def use_slicing(self):
        return self.slicing

    @use_slicing.setter
    def use_slicing(self, enabled):
        self.slicing = bool(enabled)

    @property
    def tile_sample_min_size(self):
        """Edge of a tile in px. Set it after ``enable_tiling``, as with AutoencoderKL."""
        return self.config.sample_size if self.tiling is None else self.tiling.tile

    @tile_sample_min_size.setter
    def tile_sample_min_size(self, tile):
        if self.tiling is None:
            raise SettingError('tiling is off: enable_tiling(tile=...) switches it on and sets the size')
        self.enable_tiling(tile, self.tiling.above_pixels, self.tiling.attention_window)

    @property
    def tile_latent_min_size(self):
        """Edge of a tile in latent positions."""
        return self.tile_sample_min_size // self.downsample_factor

    @tile_latent_min_size.setter
    def tile_latent_min_size(self, tile):
        self.tile_sample_min_size = tile * self.downsample_factor

    @property
    def tile_overlap_factor(self):
        """0: each tile is computed with the surrounding pixels that its convolutions read, so no blending is needed."""
        return 0.0

    @tile_overlap_factor.setter
    def tile_overlap_factor(self, share):
        raise SettingError(f'tile_overlap_factor={share!r}: tiles overlap by what their convolutions read; there is '
                           'nothing to set')

    attn_processors = {}

    def set_default_attn_processor(self):
        """Does nothing: the attention here is PyTorch's fused one."""

    def set_attn_processor(self, processor):
        raise SettingError('set_attn_processor: its attention has no processors; it is PyTorch\'s fused one')

    def fuse_qkv_projections(self):
        raise SettingError('fuse_qkv_projections: queries, keys and values are separate convolutions here; leave '
                           'the call out')

    @property
    def gradient_checkpointing(self):
        """Set by diffusers' ``enable_gradient_checkpointing``; recomputation always uses the non-re-entrant form."""
        return self.encoder.checkpoint_activations

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enabled):
        self.encoder.checkpoint_activations = self.decoder.checkpoint_activations = enabled

    @property
    def post_quant_conv(self):
        """Pipelines that upcast the vae read the dtype of latents from the parameters of this module."""
        return self.decoder.conv_in

    def foreign_parts(self):
        """Class names of a plug-in's parts; their source is not saved with the model."""
        own = {'torch', __name__.partition('.')[0], MODELLING_FILE}
        return sorted({type(part).__name__ for part in self.modules()
                       if type(part).__module__.partition('.')[0] not in own})

    def save_config(self, save_directory, push_to_hub=False, **kwargs):
        """Write ``config.json``, and a source file with which diffusers loads the model without this package."""
        foreign = self.foreign_parts()
        if foreign:
            warnings.warn(f'{save_directory}: loads only where the plug-in that registers {", ".join(foreign)} is '
                          'imported', stacklevel=2)
        else:
            self.register_to_config(auto_map={'AutoModel': f'{MODELLING_FILE}.{type(self).__name__}'})
            folder = Path(save_directory)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f'{MODELLING_FILE}.py').write_text(modelling_source(), encoding='utf-8')
        super().save_config(save_directory, push_to_hub, **kwargs)

    def push_to_hub(self, repo_id, commit_message=None, **kwargs):
        """See diffusers; the README.md of the folder that the model was loaded from becomes the page of the repository.

        A README.md that the repository has stays. Without either, in a subfolder or a pull request, diffusers decides.
        """
        from huggingface_hub import file_exists, upload_file

        token = kwargs.get('token')
        card = Path(self.config.get('_name_or_path') or '') / 'README.md'
        elsewhere = kwargs.get('subfolder') or kwargs.get('create_pr')
        ours = card.is_file() and not elsewhere and not file_exists(repo_id, 'README.md', token=token)
        result = super().push_to_hub(repo_id, commit_message, **kwargs)
        if ours:
            text = card.read_text(encoding='utf-8').replace('THIS_FOLDER', repo_id)
            upload_file(path_or_fileobj=text.encode(), path_in_repo='README.md', repo_id=repo_id, token=token)
        return result

    @classmethod
    def extract_init_dict(cls, config_dict, **kwargs):
        # diffusers would report auto_map, its own key, as an unknown setting.
        return super().extract_init_dict({key: value for key, value in config_dict.items() if key != 'auto_map'},
                                         **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, output_loading_info=False, **kwargs):
        """See ModelMixin; here loading is strict.

        Raises:
            RuntimeError: weights are missing or unexpected; the message names them.
        """
        model, info = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        wrong = {kind: sorted(info.get(f'{kind}_keys', ())) for kind in ('missing', 'unexpected')}
        if any(wrong.values()):
            text = '; '.join(f'{len(keys)} {kind}: {", ".join(keys[:3])}' for kind, keys in wrong.items() if keys)
            raise RuntimeError(f'{pretrained_model_name_or_path}: weights that do not fit its config.json ({text})')
        model.to(memory_format=torch.channels_last)  # loading replaces the parameters of __init__
        return (model, info) if output_loading_info else model
