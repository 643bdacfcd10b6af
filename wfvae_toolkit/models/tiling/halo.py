"""Which input pixels an output pixel reads: of a part, of a stage, of an encoder or a decoder.

A span is a pair (start, stop) of pixels along one axis.

A plug-in may describe itself: a part by ``receptive_halo``, a stage by ``reads``, an encoder or decoder by
``tiled_parts`` and ``last_parts``. Where a module has none of these, the structure of ``WFVAE2Image`` is assumed.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Halo:
    """How many pixels ``before`` and ``after`` its own place an output pixel reads.

    Counted at the finer of a part's two sizes: a downsampler's input, an upsampler's output. ``unbounded`` names the
    parts that may read the whole picture.
    """

    before: int = 0
    after: int = 0
    unbounded: frozenset = frozenset()

    def __add__(self, other):
        return Halo(self.before + other.before, self.after + other.after, self.unbounded | other.unbounded)


def halo_of(*parts):
    """The Halo of modules in a row that all work at one size.

    A part gives its own as ``receptive_halo``: pixels on every side, a pair (before, after) or a Halo. A part without
    one may look at the whole picture.
    """
    return sum((_own_halo(part) for part in parts), Halo())


def _own_halo(part):
    # Exact types: a subclass in a plug-in may have a stride or a dilation.
    if type(part) is nn.Sequential:
        return halo_of(*part)
    if type(part) is nn.Conv2d:
        return Halo(part.kernel_size[0] // 2, part.kernel_size[0] // 2)
    if type(part) in (nn.Identity, nn.Dropout, nn.SiLU):
        return Halo()
    declared = getattr(part, 'receptive_halo', None)
    if declared is None:
        return Halo(unbounded=frozenset([type(part).__name__]))
    if isinstance(declared, Halo):
        return declared
    return Halo(declared, declared) if isinstance(declared, int) else Halo(*declared)


# Spans


def widen(span, halo):
    """What ``span`` of the output reads of an input of the same size."""
    return span[0] - halo.before, span[1] + halo.after


def read_by_downsampler(span, halo):
    """What ``span`` of the output reads of an input of twice the size."""
    return widen((2 * span[0], 2 * span[1]), halo)


def read_by_upsampler(span, halo):
    """What ``span`` of the output reads of an input of half the size."""
    start, stop = widen(span, halo)
    return start // 2, -(-stop // 2)


def cover(*spans):
    """The shortest span that holds all ``spans``."""
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def clip(span, size):
    """The part of ``span`` in [0, size). Beyond the border of the whole picture, convolutions pad with zeros."""
    return max(span[0], 0), min(span[1], size)


def times(span, factor):
    """``span`` at ``factor`` times the size."""
    return span[0] * factor, span[1] * factor


# What stages and halves read


def encoder_stage_reads(stage, span):
    """The span of the features that ``span`` of the stage's output depends on."""
    if hasattr(stage, 'reads'):
        return stage.reads(span)
    joined = widen(span, halo_of(stage.out_block))
    inside = widen(read_by_downsampler(joined, halo_of(stage.downsample)), halo_of(stage.blocks))
    if stage.flow_in is None:
        return inside
    return cover(inside, times(widen(joined, halo_of(stage.flow_in)), 2))


def decoder_stage_reads(stage, span, flow_span):
    """The span of the input that ``span`` of the stage's features and ``flow_span`` of its coefficients depend on."""
    if hasattr(stage, 'reads'):
        return stage.reads(span, flow_span)
    inside = widen(read_by_upsampler(widen(span, halo_of(stage.out_block)), halo_of(stage.upsample)),
                   halo_of(stage.blocks))
    if stage.flow_block is not None:
        inside = cover(inside, widen(flow_span, halo_of(stage.flow_block, stage.flow_out)))
    return widen(inside, halo_of(stage.branch))


def encoder_spans(encoder, span, size):
    """Spans that the first conv and each stage take for ``span`` of the latent, along an axis of ``size`` latent px."""
    needed = taken = span
    spans = []
    for stage in reversed(encoder.stages):
        size *= 2
        needed = clip(encoder_stage_reads(stage, needed), size)
        # Each half starts and ends at an even index. Pixels added for this may hold any value.
        taken = cover(times(taken, 2), (needed[0] - needed[0] % 2, needed[1] + needed[1] % 2))
        spans.insert(0, taken)
    return [cover(taken, clip(widen(needed, halo_of(encoder.conv_in)), size)), *spans]


def decoder_spans(decoder, span, size):
    """Spans that each stage and the end read for ``span`` of the latent, along an axis of ``size`` latent px."""
    levels = len(decoder.stages)
    wanted = clip(widen(times(span, 2**levels), halo_of(*_last_parts(decoder))), size << levels)
    spans = [wanted]
    for level in reversed(range(levels)):
        wanted = clip(decoder_stage_reads(decoder.stages[level], wanted, times(span, 2**level)), size << level)
        spans.insert(0, wanted)
    return spans


def unbounded_in_encoder(encoder):
    """Class names in the encoder's tiled stages that may look at the whole picture."""
    own = getattr(encoder, 'tiled_parts', None)
    return halo_of(*(own() if own else (encoder.conv_in, *_stage_parts(encoder)))).unbounded


def unbounded_in_decoder(decoder):
    """The same for a decoder."""
    own = getattr(decoder, 'tiled_parts', None)
    return halo_of(*(own() if own else (*_stage_parts(decoder), *_last_parts(decoder)))).unbounded


def _stage_parts(half):
    return [part for stage in half.stages for part in stage.children()]


def _last_parts(decoder):
    """Modules of ``decoder.last_details``."""
    own = getattr(decoder, 'last_parts', None)
    return own() if own else (decoder.norm_out, decoder.activation_out, decoder.conv_out)
