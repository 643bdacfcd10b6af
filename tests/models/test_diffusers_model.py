import inspect
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wfvae_toolkit import AutoencoderWFVAE2
from wfvae_toolkit.models.autoencoders import WFVAE2Image
from wfvae_toolkit.models.wavelets import Haar
from wfvae_toolkit.registry import WAVELETS
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.torchvision_shim import import_diffusers

AutoencoderKL = import_diffusers().AutoencoderKL

TINY = dict(latent_channels=3, widths=(8, 12), flow_width=4)
RESIDUAL = dict(latent_channels=4, widths=(8, 16, 16), energy_flow=False, latent_shortcuts=True,
                downsample=dict(type='ResidualDownsample'), upsample=dict(type='ResidualUpsample'),
                channel_attention=dict(type='ECA'), output_activation=True)
VARIETIES = {
    'default': {}, 'residual': RESIDUAL, 'db2': dict(wavelet=dict(type='DiscreteWavelet', name='db2')),
    'group norm': dict(norm=dict(type='GroupNorm', groups=4), mid_blocks=[dict(type='SpatialAttention')]),
    'fixed variance': dict(posterior=dict(type='FixedVariancePosterior', std=0.3)),
    'uneven': dict(decoder_widths=(4, 8), decoder_flow_width=6, encoder_layers=1, decoder_layers=[3])}


@pytest.fixture
def make_vae():
    """AutoencoderWFVAE2 of few thousand parameters, in evaluation; keyword arguments over its settings."""
    def make(seed=0, **settings):
        torch.manual_seed(seed)
        return AutoencoderWFVAE2(**{**TINY, **settings}).eval()
    return make


def equal_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# The network

def test_settings_are_the_native_ones():
    native, ours = (inspect.signature(cls).parameters for cls in (WFVAE2Image, AutoencoderWFVAE2))
    assert native.keys() - ours.keys() == {'checkpoint_activations'}
    assert all(ours[name].default == native[name].default for name in native.keys() & ours.keys())


@pytest.mark.parametrize('settings', VARIETIES.values(), ids=VARIETIES)
def test_results_are_the_native_ones(make_vae, make_images, settings):
    vae, native = make_vae(**settings), WFVAE2Image(**{**TINY, **settings}).eval()
    native.load_state_dict(vae.state_dict(), strict=True)
    images = make_images()
    with torch.no_grad():
        expected, posterior = native.encode(images).latent_dist, vae.encode(images).latent_dist
        assert torch.equal(posterior.mode(), expected.mode())
        assert torch.equal(posterior.logvar, expected.logvar)
        drawn = [dist.sample(torch.Generator().manual_seed(1)) for dist in (posterior, expected)]
        assert torch.equal(*drawn)
        torch.testing.assert_close(posterior.kl(), expected.kl().sum((1, 2, 3)))
        assert torch.equal(vae.decode(drawn[0]).sample, native.decode(drawn[0]).sample)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_posterior_that_is_no_gaussian_stays_its_own(make_vae, make_images, dtype):
    vae, images = make_vae(posterior=dict(type='DeterministicPosterior')).to(dtype), make_images().to(dtype)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
        assert torch.equal(posterior.sample(torch.Generator()), posterior.mode())
        assert posterior.mode().dtype == dtype
        assert torch.equal(vae(images, sample_posterior=True).sample, vae(images).sample)
    with pytest.raises(SettingError, match='has no KL divergence'):
        posterior.kl()


def test_outputs_as_fields_and_as_tuples(make_vae, make_images):
    vae, images = make_vae(), make_images()
    with torch.no_grad():
        posterior, = vae.encode(images, return_dict=False)
        assert torch.equal(posterior.mode(), vae.encode(images).latent_dist.mode())
        image, = vae.decode(posterior.mode(), return_dict=False)
        assert torch.equal(vae(images).sample, image)
        assert torch.equal(vae(images, return_dict=False)[0], image)
        drawn, = vae(images, sample_posterior=True, return_dict=False, generator=torch.Generator().manual_seed(1))
        latents = posterior.sample(torch.Generator().manual_seed(1))
        assert torch.equal(drawn, vae.decode(latents, generator=torch.Generator()).sample)


def test_sizes_that_f_does_not_divide_are_refused(make_vae):
    with pytest.raises(ValueError, match='use multiples of 4'):
        make_vae().encode(torch.zeros(1, 3, 18, 16))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_latents_have_the_models_dtype_and_images_are_float32(make_vae, make_images, dtype):
    vae = make_vae().to(dtype)
    with torch.no_grad():
        latents = vae.encode(make_images().to(dtype)).latent_dist.sample()
        assert latents.dtype == vae.dtype == dtype
        assert vae.decode(latents).sample.dtype == torch.float32


def test_slicing_and_tiling_change_nothing(make_vae, make_images):
    vae, images = make_vae(), make_images(3, 48, 64)
    with torch.no_grad():
        expected, expected_latents = vae(images).sample, vae.encode(images).latent_dist.mode()
        for name, options in (('slicing', {}), ('tiling', dict(tile=16))):
            getattr(vae, f'enable_{name}')(**options)
            assert getattr(vae, f'use_{name}')
            torch.testing.assert_close(vae(images).sample, expected, rtol=0, atol=1e-4)
            torch.testing.assert_close(vae.encode(images).latent_dist.mode(), expected_latents, rtol=0, atol=1e-4)
            getattr(vae, f'disable_{name}')()
            assert not getattr(vae, f'use_{name}')
        assert torch.equal(vae(images).sample, expected)


def test_gradient_checkpointing_keeps_gradients(make_vae, make_images):
    vae, images = make_vae().train(), make_images()
    gradients = []
    for enabled in (False, True):
        if enabled:
            vae.enable_gradient_checkpointing()
        assert vae.is_gradient_checkpointing == enabled == vae.decoder.checkpoint_activations
        vae.zero_grad()
        vae(images).sample.square().mean().backward()
        gradients.append([value.grad for value in vae.parameters() if value.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 50
    assert all(map(torch.equal, *gradients))
    vae.disable_gradient_checkpointing()
    assert not vae.encoder.checkpoint_activations


# What AutoencoderKL's users call

def test_all_that_autoencoder_kl_has_is_here_or_named():
    """Its public names that are missing here belong to its own way of tiling and to files of other projects."""
    lacking = {name for name in set(dir(AutoencoderKL)) - set(dir(AutoencoderWFVAE2)) if not name.startswith('_')}
    assert lacking == {'blend_h', 'blend_v', 'tiled_encode', 'tiled_decode', 'from_single_file',
                       'unfuse_qkv_projections'}


def test_tiling_is_switched_as_of_autoencoder_kl(make_vae):
    vae = make_vae(sample_size=64)
    for switch in (lambda on: vae.enable_tiling(on), lambda on: vae.enable_tiling() if on else vae.disable_tiling(),
                   lambda on: setattr(vae, 'use_tiling', on)):
        switch(True)
        assert (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size) == (True, 64, 16)
        assert vae.tiling.above_pixels == 0
        switch(False)
        assert not vae.use_tiling
    vae.use_slicing = True
    assert vae.slicing


def test_the_size_of_tiles_is_set_as_of_autoencoder_kl_and_nothing_else_is(make_vae):
    vae = make_vae()
    vae.enable_tiling()
    vae.tile_sample_min_size = 32
    assert (vae.tiling.tile, vae.tile_latent_min_size) == (32, 8)
    vae.tile_latent_min_size = 5
    assert vae.tiling.tile == 20
    with pytest.raises(SettingError, match='use a multiple of 4 px'):
        vae.tile_sample_min_size = 30
    with pytest.raises(SettingError, match='tile_overlap_factor=0.5: .* nothing to set'):
        vae.tile_overlap_factor = 0.5
    vae.disable_tiling()
    with pytest.raises(SettingError, match='tiling is off'):
        vae.tile_sample_min_size = 32


def test_the_factor_and_the_attention_answer(make_vae):
    vae = make_vae()
    assert vae.spatial_compression_ratio == vae.downsample_factor == 4
    vae.set_default_attn_processor()
    assert vae.attn_processors == {}
    for call in (vae.fuse_qkv_projections, lambda: vae.set_attn_processor(object())):
        with pytest.raises(SettingError, match='qkv_projections: queries|attention has no processors'):
            call()


@pytest.mark.parametrize('images', [
    torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 3, 16, 16, dtype=torch.int64),
    torch.zeros(1, 3, 16, 16, dtype=torch.bool), np.zeros((1, 3, 16, 16), np.float32), None, [torch.zeros(3, 16, 16)]],
    ids=lambda value: str(getattr(value, 'dtype', type(value).__name__)))
def test_pictures_and_latents_are_float_tensors(make_vae, images):
    vae = make_vae()
    for call in (vae, vae.encode):
        with pytest.raises(SettingError, match=r'images of .*: a float tensor is needed, in \[-1, 1\]; of uint8 it'):
            call(images)
    with pytest.raises(SettingError, match='latents of .*: a float tensor is needed'):
        vae.decode(images)


@pytest.mark.parametrize('shape', [(3, 2, 2), (1, 4, 2, 2), (0, 3, 2, 2), (1, 3, 0, 2)])
def test_latents_of_another_shape_are_named(make_vae, shape):
    with pytest.raises(SettingError, match=r'latents of shape .*: \(B, 3, H, W\) is needed'):
        make_vae().decode(torch.zeros(shape))


@pytest.mark.parametrize('settings', VARIETIES.values(), ids=VARIETIES)
def test_sizes_can_be_estimated_on_the_meta_device(make_vae, settings):
    vae = make_vae(**settings).to('meta').train()
    sample = vae(torch.zeros(2, 3, 16, 32, device='meta')).sample
    assert sample.shape == (2, 3, 16, 32)
    sample.sum().backward()


class Adapted(nn.Module):
    """What peft puts in the place of a convolution: its weight reads as before, its result has another part."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.more = nn.Conv2d(base_layer.in_channels, base_layer.out_channels, base_layer.kernel_size,
                              base_layer.stride, base_layer.padding)
        self.weight, self.bias = base_layer.weight, base_layer.bias

    def forward(self, x):
        return self.base_layer(x) + self.more(x)


@pytest.mark.parametrize('settings', [{}, RESIDUAL], ids=['default', 'residual'])
def test_an_adapter_at_any_convolution_counts_and_trains(make_vae, make_images, settings):
    """Some layers compute with a convolution's weight instead of calling it."""
    vae, images = make_vae(**settings).train(), make_images()
    before = vae(images).sample
    adapters = {}
    for name, module in list(vae.named_modules()):
        if type(module) is nn.Conv2d:
            adapters[name] = Adapted(module)
            vae.get_submodule(name.rpartition('.')[0]).register_module(name.rpartition('.')[2], adapters[name])
    for adapter in adapters.values():
        nn.init.zeros_(adapter.more.weight), nn.init.zeros_(adapter.more.bias)
    torch.testing.assert_close(vae(images).sample, before, rtol=0, atol=1e-4)
    vae(images, sample_posterior=True).sample.square().mean().backward()
    # Keys have a bias that softmax ignores, and its gradient is rounding.
    assert [name for name, adapter in adapters.items() if not adapter.more.weight.grad.abs().sum() > 0] == []
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.more.weight.fill_(0.01)
        trained, evaluated = vae.train()(images).sample, vae.eval()(images).sample
    assert not torch.allclose(trained, before, atol=1e-2)
    assert torch.equal(trained, evaluated)


# The config

@pytest.mark.parametrize('widths', [(8, 12), (8, 12, 12), (8, 8, 8, 8, 8)])
def test_pipelines_compute_f_from_block_out_channels(make_vae, widths):
    vae = make_vae(widths=widths)
    assert 2 ** (len(vae.config.block_out_channels) - 1) == vae.downsample_factor


def test_a_model_is_its_config(make_vae):
    vae = make_vae(**VARIETIES['db2'], scaling_factor=0.5, latents_std=[1.0, 2.0, 3.0])
    again = AutoencoderWFVAE2.from_config(vae.config)
    assert {**again.config, '_use_default_values': 0} == {**vae.config, '_use_default_values': 0}
    assert again.state_dict().keys() == vae.state_dict().keys()
    assert 'Haar' in repr(AutoencoderWFVAE2.from_config(make_vae().config, wavelet=dict(type='Haar')))


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(block_out_channels=(3, 8)), r'give \(3, 8, 12\)'),
    (dict(latents_mean=[0.0]), '1 values in latents_mean for 3 latent channels'),
    (dict(in_channels=1), 'in_channels=1'),
    (dict(wavelet=dict(type='subprocess.Popen', args='true')), "no registry holds 'subprocess.Popen'"),
    (dict(mid_blocks=[dict(type='ResidualBlock', norm=dict(type='os.system'))]), "no registry holds 'os.system'"),
])
def test_settings_that_cannot_work_are_refused(make_vae, settings, message):
    with pytest.raises(ValueError, match=message):
        make_vae(**settings)


# Folders

@pytest.mark.parametrize('options', [{}, dict(max_shard_size='5KB'), dict(variant='fp16'),
                                     dict(subfolder='vae'), dict(dtype=torch.bfloat16)], ids=str)
def test_saved_and_loaded_is_bit_equal(make_vae, make_images, tmp_path, options):
    dtype, subfolder = options.pop('dtype', torch.float32), options.pop('subfolder', '')
    vae = make_vae().to(dtype)
    vae.save_pretrained(tmp_path / subfolder, **options)
    if 'max_shard_size' in options:
        assert len(list(tmp_path.glob('*-of-*.safetensors'))) > 2
    options.pop('max_shard_size', None)
    loaded = AutoencoderWFVAE2.from_pretrained(tmp_path, subfolder=subfolder, torch_dtype=dtype, **options)
    assert loaded.dtype == dtype
    assert not loaded.training
    assert equal_weights(vae, loaded)
    images = make_images().to(dtype)
    with torch.no_grad():
        assert torch.equal(vae.to(torch.float32)(images.float()).sample, loaded.float()(images.float()).sample)


def test_weights_in_16_bits_leave_a_wavelets_filters_whole(make_vae, tmp_path):
    vae = make_vae(**VARIETIES['db2'])
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderWFVAE2.from_pretrained(tmp_path, torch_dtype=torch.float16)
    assert torch.equal(loaded.decoder.wavelet.synthesis, vae.decoder.wavelet.synthesis)


def test_loading_is_strict(make_vae, tmp_path):
    make_vae().save_pretrained(tmp_path)
    path = tmp_path / 'diffusion_pytorch_model.safetensors'
    weights = load_file(path)
    def load(changed):
        save_file(changed, path, metadata={'format': 'pt'})
        return AutoencoderWFVAE2.from_pretrained(tmp_path)

    with pytest.raises(RuntimeError, match='1 unexpected: logvar'):
        load({**weights, 'logvar': torch.zeros(1)})
    with pytest.raises(RuntimeError, match='size mismatch'):
        load({**weights, 'encoder.conv_in.bias': torch.zeros(3)})
    weights.pop('encoder.conv_in.bias')
    with pytest.raises(RuntimeError, match='1 missing: encoder.conv_in.bias'):
        load(weights)


def test_a_plug_ins_part_stays_behind_and_is_named(make_vae, tmp_path):
    class Foreign(Haar):
        pass

    class ForeignParts(nn.Identity):
        pass

    WAVELETS.register_module(module=Foreign)
    try:
        vae = make_vae(wavelet=dict(type='Foreign'))
        vae.decoder.norm_out = ForeignParts()
        with pytest.warns(UserWarning, match='registers Foreign, ForeignParts is imported'):
            vae.save_pretrained(tmp_path)
    finally:
        WAVELETS.module_dict.pop('Foreign')
    assert 'auto_map' not in json.loads((tmp_path / 'config.json').read_text())
    assert not list(tmp_path.glob('*.py'))


def test_the_package_itself_imports_neither_torch_nor_diffusers(launch):
    launch(sys.executable, '-c', 'import sys, wfvae_toolkit; assert not {"torch", "diffusers"} & set(sys.modules)')
    import wfvae_toolkit
    with pytest.raises(AttributeError, match="no attribute 'AutoencoderWFVAE3'"):
        wfvae_toolkit.AutoencoderWFVAE3  # noqa: B018
