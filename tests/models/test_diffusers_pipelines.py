"""Pipelines of diffusers, tiny and with random weights, with our model as their vae."""

import json
import sys

import pytest
import torch

from wfvae_toolkit import AutoencoderWFVAE2
from wfvae_toolkit.checkpoints import make_pipeline_portable
from wfvae_toolkit.checkpoints.native import CheckpointError

WITHOUT_TEXT = dict(text_encoder=None, tokenizer=None)
SIZE = dict(height=32, width=48, num_inference_steps=2, output_type='pt')


@pytest.fixture
def make_vae():
    def make(**settings):
        torch.manual_seed(0)
        return AutoencoderWFVAE2(**{**dict(latent_channels=4, widths=(8, 12, 12), flow_width=4, scaling_factor=0.7,
                                           shift_factor=0.1), **settings}).eval()
    return make


@pytest.fixture
def stable_diffusion(make_vae):
    """Builds StableDiffusionPipeline, or another class with its parts."""
    import diffusers

    def build(cls=None, vae=None, **parts):
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, sample_size=4, norm_num_groups=4, cross_attention_dim=8,
            attention_head_dim=4, down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
            up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'))
        pipeline = (cls or diffusers.StableDiffusionPipeline)(
            vae=vae or make_vae(), unet=unet, scheduler=diffusers.DDIMScheduler(), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False, **WITHOUT_TEXT, **parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
    return build


def prompts(*shape, dtype=torch.float32):
    embeds = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return dict(prompt_embeds=embeds, negative_prompt_embeds=embeds * 0, generator=torch.Generator().manual_seed(4))


def test_stable_diffusion_decodes_what_it_scaled(stable_diffusion):
    pipeline = stable_diffusion()
    assert pipeline.vae_scale_factor == 8
    images = pipeline(**prompts(1, 3, 8), **SIZE).images
    latents = pipeline(**prompts(1, 3, 8), **{**SIZE, 'output_type': 'latent'}).images
    assert images.shape == (1, 3, 32, 48)
    with torch.no_grad():
        expected = pipeline.vae.decode(latents / 0.7).sample
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_image_to_image(stable_diffusion, dtype):
    import diffusers

    pipeline = stable_diffusion(diffusers.StableDiffusionImg2ImgPipeline).to(dtype)
    images = pipeline(image=torch.rand(2, 3, 32, 32), **prompts(2, 3, 8, dtype=dtype), num_inference_steps=4,
                      strength=0.5, output_type='pt').images
    assert images.shape == (2, 3, 32, 32)
    assert images.std() > 0


def test_inpainting_and_vae_switches(stable_diffusion):
    import diffusers

    pipeline = stable_diffusion(diffusers.StableDiffusionInpaintPipeline)
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling(tile=16)
    images = pipeline(image=torch.rand(1, 3, 32, 32), mask_image=torch.ones(1, 1, 32, 32).triu(), **prompts(1, 3, 8),
                      **{**SIZE, 'width': 32}).images
    assert images.shape == (1, 3, 32, 32)


def test_stable_diffusion_xl_upcasts_and_reads_channel_statistics(make_vae):
    import diffusers

    vae = make_vae(scaling_factor=1.0, shift_factor=0.0, latents_mean=[0.1, 0.2, 0.3, 0.4],
                   latents_std=[1.0, 2.0, 3.0, 4.0])
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=4, norm_num_groups=4, cross_attention_dim=8,
        attention_head_dim=4, addition_embed_type='text_time', addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=4 * 6 + 8, down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'))
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae, unet=unet, scheduler=diffusers.DDIMScheduler(), text_encoder_2=None, tokenizer_2=None,
        add_watermarker=False, **WITHOUT_TEXT)
    pipeline.set_progress_bar_config(disable=True)
    pooled = dict(pooled_prompt_embeds=torch.ones(1, 8), negative_pooled_prompt_embeds=torch.zeros(1, 8))
    images = pipeline(**prompts(1, 3, 8), **pooled, **SIZE).images
    latents = pipeline(**prompts(1, 3, 8), **pooled, **{**SIZE, 'output_type': 'latent'}).images
    raw = latents * torch.tensor([1.0, 2, 3, 4]).view(-1, 1, 1) + torch.tensor([0.1, 0.2, 0.3, 0.4]).view(-1, 1, 1)
    with torch.no_grad():
        expected = vae.decode(raw).sample
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1))
    pipeline.vae.to(torch.float16)
    pipeline.upcast_vae()
    assert next(pipeline.vae.post_quant_conv.parameters()).dtype == torch.float32


def test_stable_diffusion_3_reads_scale_and_shift(make_vae):
    import diffusers

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=4, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=2,
        joint_attention_dim=8, caption_projection_dim=8, pooled_projection_dim=8, out_channels=4, pos_embed_max_size=8)
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(), make_vae(), None, None, None, None, None, None)
    pipeline.set_progress_bar_config(disable=True)
    pooled = dict(pooled_prompt_embeds=torch.ones(1, 8), negative_pooled_prompt_embeds=torch.zeros(1, 8))
    images = pipeline(**prompts(1, 3, 8), **pooled, **SIZE).images
    latents = pipeline(**prompts(1, 3, 8), **pooled, **{**SIZE, 'output_type': 'latent'}).images
    with torch.no_grad():
        expected = pipeline.vae.decode(latents / 0.7 + 0.1).sample
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1))


def test_flux_image_to_image(make_vae):
    import diffusers

    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8))
    pipeline = diffusers.FluxImg2ImgPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), make_vae(), None, None, None, None, transformer)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(image=torch.rand(1, 3, 32, 32), prompt_embeds=torch.ones(1, 3, 8), strength=0.5,
                      pooled_prompt_embeds=torch.ones(1, 8), height=32, width=32, num_inference_steps=4,
                      output_type='pt').images
    assert images.shape == (1, 3, 32, 32)


# Folders of pipelines

LOAD = '''
import sys

if sys.argv[1] == 'without':
    sys.modules.update(dict.fromkeys(['wfvae_toolkit', 'mmengine', 'pywt', 'torchvision']))
else:
    from wfvae_toolkit import AutoencoderWFVAE2
import diffusers

pipeline = diffusers.DiTPipeline.from_pretrained('pipeline', trust_remote_code=sys.argv[1] == 'without')
assert type(pipeline.vae).__name__ == 'AutoencoderWFVAE2'
pipeline([1], num_inference_steps=2, output_type='np')
'''


@pytest.mark.slow
def test_a_saved_pipeline_loads_with_the_toolkit_and_once_portable_without(make_vae, launch, tmp_path):
    import diffusers

    transformer = diffusers.DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=4, in_channels=4,
                                                  out_channels=4, num_layers=1, sample_size=4, patch_size=2,
                                                  norm_num_groups=1)
    folder = tmp_path / 'pipeline'
    diffusers.DiTPipeline(transformer, make_vae(), diffusers.DDIMScheduler()).save_pretrained(folder)
    launch(sys.executable, '-c', LOAD, 'with', cwd=tmp_path)
    make_pipeline_portable(folder)
    assert json.loads((folder / 'model_index.json').read_text())['vae'][0] == 'modelling_wfvae2'
    launch(sys.executable, '-c', LOAD, 'without', cwd=tmp_path, env={'HF_MODULES_CACHE': str(tmp_path / 'cache'),
                                                                     'PYTHONPATH': ''})


def test_what_cannot_be_made_portable_is_said(tmp_path):
    with pytest.raises(CheckpointError, match='no readable pipeline with a vae'):
        make_pipeline_portable(tmp_path)
    (tmp_path / 'model_index.json').write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    with pytest.raises(CheckpointError, match='modelling_wfvae2.py: missing'):
        make_pipeline_portable(tmp_path)
