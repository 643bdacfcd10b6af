import warnings

import pytest
import torch
from torch import nn

from tests.helpers import noise
from tests.models.tiling.networks import CONFIGS, build, largest_difference, results
from tests.tolerances import of_network
from wfvae_toolkit.models.layers import StridedDownsample
from wfvae_toolkit.models.tiling import halo
from wfvae_toolkit.models.tiling.halo import decoder_spans, encoder_spans


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
