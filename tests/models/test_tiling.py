import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tolerances import of_network
from wfvae_toolkit.inference import Reconstructor
from wfvae_toolkit.models.layers import StridedDownsample
from wfvae_toolkit.models.tiling import AUTO_PIXELS, Tiling, TilingControls, halo, passes, set_tiling
from wfvae_toolkit.models.tiling.halo import decoder_spans, encoder_spans
from wfvae_toolkit.models.tiling.pieces import cut
from wfvae_toolkit.registry import AUTOENCODERS

RESIDUAL = dict(downsample=dict(type='ResidualDownsample'), upsample=dict(type='ResidualUpsample'))
CONFIGS = {
    'default': {},
    '4x': dict(widths=(4, 8)),
    '16x, lists': dict(widths=(4, 4, 8, 8), encoder_layers=[3, 1, 2], decoder_layers=[2, 4, 3]),
    'one layer': dict(encoder_layers=1, decoder_layers=3),
    'no flow': dict(energy_flow=False),
    'no flow, one layer': dict(energy_flow=False, encoder_layers=1),
    'RMSNorm': dict(norm=dict(type='RMSNorm2d')),
    'residual': dict(**RESIDUAL),
    '32x': dict(widths=(4, 4, 8, 8, 8), latent_channels=4, encoder_layers=[1, 2, 1, 1], decoder_layers=[2, 2, 2, 3],
                latent_shortcuts=True, energy_flow=False, **RESIDUAL),
    '32x, flow': dict(widths=(4, 4, 8, 8, 8), encoder_layers=1, decoder_widths=(4, 4, 4, 4, 8), decoder_flow_width=3,
                      **RESIDUAL),
    'residual down, nearest up': dict(downsample=RESIDUAL['downsample'], output_activation=True),
    'db2': dict(wavelet=dict(type='DiscreteWavelet', name='db2')),
    'bior4.4': dict(wavelet=dict(type='DiscreteWavelet', name='bior4.4')),
    'PixelUnshuffle': dict(wavelet=dict(type='PixelUnshuffle')),
}


def build(seed=0, **settings):
    torch.manual_seed(seed)
    small = dict(type='WFVAE2Image', latent_channels=2, widths=(4, 8, 8), flow_width=4)
    model = AUTOENCODERS.build({**small, **settings}).eval()
    model.disable_tiling()
    return model


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def results(model, height, width, batch=1):
    """Name -> everything that encode and decode give for a latent of this size; the decoder gets noise."""
    factor = model.downsample_factor
    encoded = model.encode(noise(batch, 3, height * factor, width * factor))
    decoded = model.decode(noise(batch, model.latent_channels, height, width))
    return {'mean': encoded.latent_dist.mean, 'logvar': encoded.latent_dist.logvar, 'sample': decoded.sample,
            **{f'encoder band {number}': band for number, band in enumerate(encoded.bands)},
            **{f'decoder band {number}': band for number, band in enumerate(decoded.bands)}}


def largest_difference(first, second):
    """Of all results, relative to the largest value of the result that it is in."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / second[name].abs().max()) for name in first)


# equality

@pytest.mark.parametrize(('height', 'width', 'tile'), [(9, 14, 4), (1, 7, 2), (5, 3, 1), (6, 6, 40)])
@pytest.mark.parametrize('settings', CONFIGS.values(), ids=CONFIGS)
def test_tiled_equals_untiled(settings, height, width, tile):
    model = build(**settings)
    untiled = results(model, height, width, batch=2)
    model.enable_tiling(tile=tile * model.downsample_factor)
    assert model.tiling_is_exact
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        tiled = results(model, height, width, batch=2)
    assert largest_difference(tiled, untiled) < of_network(model)


@pytest.mark.parametrize('name', ['encoder_stage_reads', 'decoder_stage_reads'])
@pytest.mark.parametrize(('before', 'after'), [(1, 0), (0, 1)])
def test_a_halo_one_pixel_shorter_is_not_enough(monkeypatch, name, before, after):
    reads = getattr(halo, name)

    def shorter(stage, *spans):
        start, stop = reads(stage, *spans)
        return start + before, stop - after

    model = build()
    untiled = results(model, 9, 14)
    model.enable_tiling(tile=32)
    monkeypatch.setattr(halo, name, shorter)
    assert largest_difference(results(model, 9, 14), untiled) > of_network(model)


# halos

def reach(x, outputs):
    """First and one past the last row of ``x`` that any of ``outputs`` depends on."""
    x.grad = None
    sum(output.sum() for output in outputs).backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1]) + 1


def measured_encoder_reach(model, span, size):
    levels = model.encoder.pyramid(noise(1, 3, size * model.downsample_factor, model.downsample_factor).double())
    levels[0].requires_grad_()
    features = model.encoder.features(levels)
    return reach(levels[0], [features[:, :, slice(*span)]])


def measured_decoder_reach(model, span, size):
    h = noise(1, model.decoder.conv_in.out_channels, size, 1).double().requires_grad_()
    details = [(level, part) for level, part in enumerate(model.decoder.details(h)) if part is not None]
    return reach(h, [part[:, :, span[0] << level:span[1] << level] for level, part in details])


@pytest.mark.parametrize('settings', CONFIGS.values(), ids=CONFIGS)
def test_halo_holds_all_that_autograd_reaches(settings):
    model = build(**settings).double()
    size, span = 40, (19, 22)
    taken, reached = encoder_spans(model.encoder, span, size)[0], measured_encoder_reach(model, span, size)
    assert taken[0] <= reached[0]
    assert reached[1] <= taken[1]
    # Joined coefficients may read more than the features beside them: at most one of their pixels a stage.
    assert max(reached[0] - taken[0], taken[1] - reached[1]) <= 2 * 2**len(model.encoder.stages)
    assert decoder_spans(model.decoder, span, size)[0] == measured_decoder_reach(model, span, size)


def test_halo_of_the_default():
    # The structure alone decides, so small widths stand for the default's.
    model = build().double()
    assert measured_encoder_reach(model, (20, 30), 50) == encoder_spans(model.encoder, (20, 30), 50)[0] == (61, 142)
    # In latent pixels, four of these: 5 before (4.75), 6 after (5.5).
    assert decoder_spans(model.decoder, (20, 30), 50)[0] == (14, 36)


def test_halo_ends_at_the_border_of_the_picture():
    model = build()
    assert encoder_spans(model.encoder, (0, 10), 10) == [(0, 40), (0, 40), (0, 20)]
    assert decoder_spans(model.decoder, (0, 10), 10) == [(0, 10), (0, 20), (0, 40)]


# parts that look further

class Undeclared(StridedDownsample):
    receptive_halo = None


class Shift(nn.Module):
    """Reads one pixel to the left."""

    out_channels = 4

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (1, 0, 1, 0))[..., :-1, :-1], 2)


def test_a_plugin_that_declares_its_halo_is_exact():
    model = build()
    model.encoder.stages[0].downsample = shift = Shift()
    assert not model.tiling_is_exact
    shift.receptive_halo = (1, 0)
    untiled = results(model, 9, 14)
    model.enable_tiling(tile=32)
    assert model.tiling_is_exact
    assert largest_difference(results(model, 9, 14), untiled) < of_network(model)


class SelfTiled(nn.Module):
    """A plug-in's half that tiles itself: it takes ``tiling`` and describes what it reads."""

    def __init__(self, half):
        super().__init__()
        self.network, self.tilings = half, []

    def forward(self, x, tiling=None):
        self.tilings.append(tiling)
        return self.network(x)

    def tiled_parts(self):
        return [Shift()]


class PluginAutoencoder(TilingControls, nn.Module):
    """A plug-in of version 0.1: it calls ``run_half`` itself."""

    downsample_factor = 8

    def __init__(self, model):
        super().__init__()
        self.encoder, self.decoder = SelfTiled(model.encoder), SelfTiled(model.decoder)
        self.automatic_tiling()

    def encode(self, x):
        return self.run_half(self.encoder, x, self.active_tiling(*x.shape[-2:]))


def test_a_plugin_whose_halves_tile_themselves_is_given_the_tiling():
    model = build()
    x = noise(2, 3, 32, 48)
    plugin = PluginAutoencoder(model).eval()
    assert not plugin.tiling_is_exact  # Shift declares no halo
    with torch.no_grad():
        expected = model.encode(x).latent_dist.mean
        plugin.encode(x)
        plugin.enable_tiling(tile=16)
        moments, bands = plugin.encode(x)
        assert plugin.encoder.tilings == [None, plugin.tiling, plugin.tiling]  # tiled pictures go one by one
        torch.testing.assert_close(moments[:, :2], expected)
        assert len(bands) == 2
        model.encoder = plugin.encoder
        model.enable_tiling(tile=16)
        model.encode(x)
    assert plugin.encoder.tilings[3:] == [model.tiling] * 2


def test_a_stage_that_says_what_it_reads_is_believed():
    model = build()
    untiled = results(model, 9, 14)
    asked = []
    for stage in (*model.encoder.stages, *model.decoder.stages):
        stage.reads = lambda span, *flow: asked.append(span) or (0, 10**6)  # all: clipped to the picture
    model.enable_tiling(tile=32)
    assert largest_difference(results(model, 9, 14), untiled) < of_network(model)
    assert asked


@pytest.mark.parametrize(('settings', 'name'), [
    (dict(norm=dict(type='GroupNorm', groups=4)), 'GroupNorm'), (dict(channel_attention=dict(type='ECA')), 'ECA')])
def test_parts_that_look_at_everything_are_said_once(settings, name):
    model = build(**settings)
    untiled = results(model, 16, 16)
    model.enable_tiling(tile=64)
    assert not model.tiling_is_exact
    with pytest.warns(UserWarning, match=f'tiling is approximate: {name} may look') as said:
        first, again = (results(model, 16, 16) for _ in range(2))
    assert len(said) == 1
    assert largest_difference(first, again) == 0
    assert largest_difference(first, untiled) > of_network(model)
    model.enable_tiling(tile=128)  # one tile
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert largest_difference(results(model, 16, 16), untiled) < of_network(model)


def test_an_undeclared_part_is_approximate():
    model = build()
    model.encoder.stages[1].downsample = Undeclared(8)
    model.enable_tiling(tile=64)
    assert not model.tiling_is_exact
    with pytest.warns(UserWarning, match='Undeclared'):
        results(model, 16, 16)


def test_blending_spreads_the_seam(monkeypatch):
    model = build(norm=dict(type='GroupNorm', groups=4))
    latents = noise(1, 2, 32, 32)
    latents[..., 16:] *= 4  # so that statistics differ between tiles
    with torch.no_grad():
        untiled = model.decode(latents).sample

        def seam():
            model.enable_tiling(tile=128)
            error = model.decode(latents).sample - untiled
            return float((error[..., 128] - error[..., 127]).abs().mean())

        with pytest.warns(UserWarning, match='blended'):
            blended = seam()
        monkeypatch.setattr('wfvae_toolkit.models.tiling.passes.cut', lambda size, length, overlap: cut(size, length))
        with pytest.warns(UserWarning, match='blended'):
            hard = seam()
    assert blended < hard / 2


@pytest.mark.parametrize(('size', 'length', 'overlap'), [(64, 16, 2), (65, 16, 2), (17, 16, 2), (100, 9, 2), (5, 8, 1),
                                                         (7, 3, 0)])
def test_pieces_cover_and_their_weights_sum_to_one(size, length, overlap):
    total = torch.zeros(size)
    for piece in cut(size, length, overlap):
        assert 0 <= piece.start < piece.stop <= size
        assert piece.stop - piece.start <= length + 2 * overlap
        total[piece.start:piece.stop] += piece.weights(total)
    torch.testing.assert_close(total, torch.ones(size))


# attention

@pytest.mark.parametrize('window', [480, None])
def test_attention_is_whole_up_to_its_window(window):
    model = build()
    untiled = results(model, 20, 24)
    model.enable_tiling(tile=64, attention_window=window)
    assert largest_difference(results(model, 20, 24), untiled) < of_network(model)


# memory

class LargestTensor(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_is_larger_than_the_picture():
    model = build(widths=(32, 8, 8), mid_blocks=[])
    picture = 3 * 384 * 384

    def largest(function, shape):
        with torch.no_grad(), LargestTensor() as seen:
            function(noise(*shape))
        return seen.elements

    for function, shape in ((model.encode, (1, 3, 384, 384)), (model.decode, (1, 2, 48, 48))):
        model.disable_tiling()
        assert largest(function, shape) > 2.5 * picture
        model.enable_tiling(tile=64)
        assert largest(function, shape) <= picture


# when

def test_automatic_beyond_a_size_in_evaluation_without_gradient():
    model = AUTOENCODERS.build(dict(type='WFVAE2Image', widths=(4, 4), flow_width=4)).eval()
    height = 1024
    width = AUTO_PIXELS // height
    with torch.no_grad():
        assert model.active_tiling(height, width) is None
        assert model.active_tiling(height, width + 4).tile == 512
        assert model.train().active_tiling(height, width + 4) is None
        model.eval().disable_tiling()
        assert model.active_tiling(height, width + 4) is None
        model.enable_tiling()
        assert model.active_tiling(4, 4).tile == 512
    assert model.active_tiling(height, width + 4) is None


def test_size_in_pixels_decides_for_latents_too(monkeypatch):
    tiled = []
    for name in ('tiled_features', 'tiled_details'):
        function = getattr(passes, name)
        monkeypatch.setattr(passes, name, lambda half, *rest, name=name, function=function: (
            tiled.append(name), function(half, *rest))[1])
    model = build()
    model.enable_tiling(tile=16, above_pixels=4 * 64)
    results(model, 2, 2)
    assert tiled == []
    results(model, 2, 3)
    assert tiled == ['tiled_features', 'tiled_details']


def test_gradients_never_pass_through_tiles():
    model = build()
    model.enable_tiling(tile=8)
    x = noise(1, 3, 16, 24).requires_grad_()
    model(x).sum().backward()
    expected, x.grad = x.grad, None
    model.disable_tiling()
    model(x).sum().backward()
    assert torch.equal(x.grad, expected)


@pytest.mark.slow
def test_an_export_is_not_tiled_and_takes_any_size():
    model = build(mid_blocks=[], widths=(4, 4), energy_flow=False).requires_grad_(False)
    model.enable_tiling(tile=4)
    whole, side = torch.export.Dim('count'), torch.export.Dim('side', min=2, max=99)
    with torch.no_grad():
        exported = torch.export.export(model, (noise(2, 3, 32, 48),), dynamic_shapes=({0: whole, 2: 4 * side},))
        torch.testing.assert_close(exported.module()(noise(3, 3, 56, 48)), model(noise(3, 3, 56, 48)))


def test_slicing_takes_images_one_by_one():
    model = build()
    expected = results(model, 2, 3, batch=3)
    batches = []
    for half in (model.encoder, model.decoder):
        half.conv_in.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    model.enable_slicing()
    assert largest_difference(results(model, 2, 3, batch=3), expected) < of_network(model)
    assert batches == [1] * 6
    model.disable_slicing()
    results(model, 2, 3, batch=3)
    assert batches[6:] == [3, 3]


# settings

@pytest.mark.parametrize(('settings', 'message'), [
    (dict(tile=12), 'tile=12: use a multiple of 8 px, such as 512'),
    (dict(tile=0), 'tile=0: use a multiple of 8 px'),
    (dict(attention_window=9), 'attention_window=9: use at least 64 positions, or None'),
])
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        build().enable_tiling(**settings)


@pytest.mark.parametrize(('tiling', 'expected'), [('auto', Tiling(above_pixels=AUTO_PIXELS)), (False, None),
                                                  (dict(tile=64), Tiling(64))])
def test_the_reconstructor_hands_it_on(tiling, expected):
    assert Reconstructor(build(), device='cpu', tiling=tiling).autoencoder.tiling == expected


def test_setting_in_one_word():
    model = build()
    for tiling, expected in ((True, Tiling()), (False, None), ('auto', Tiling(above_pixels=AUTO_PIXELS)),
                             (dict(tile=64, attention_window=None), Tiling(64, attention_window=None))):
        set_tiling(model, tiling)
        assert model.tiling == expected
    set_tiling(nn.Identity(), 'auto')
    with pytest.raises(ValueError, match="Identity has no tiling: use tiling='auto' or False"):
        set_tiling(nn.Identity(), True)
