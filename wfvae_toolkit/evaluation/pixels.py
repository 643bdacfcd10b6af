"""Which numbers of two images are scored: continuous, or 8 bits by the arithmetic of one project.

A mode is a function from (target, reconstruction), any size, about [-1, 1], to the two in [0, 1], float32. Sums and
products stand in the order in which the named script computes them, because values near the middle between two levels
would be rounded to the other one.
"""

from wfvae_toolkit.utils.errors import SettingError


def rounded(target, reconstruction):
    """Both clamped and rounded to the nearest of 256 levels: what saved PNGs score."""
    return tuple(_clamped(image).mul_(255).round_().div_(255) for image in (target, reconstruction))


def clamped(target, reconstruction):
    """Both clamped to [0, 1], not rounded."""
    return _clamped(target), _clamped(reconstruction)


def raw(target, reconstruction):
    """Neither clamped nor rounded: a reconstruction may leave [0, 1]."""
    return (target.float() + 1).div_(2), (reconstruction.float() + 1).div_(2)


def va_vae(target, reconstruction):
    """Both floor(127.5 x + 128): the PNGs of LightningDiT's evaluate_tokenizer.py."""
    return tuple((127.5 * image.float() + 128.0).clamp_(0, 255).floor_().div_(255)
                 for image in (target, reconstruction))


def dc_ae(target, reconstruction):
    """Both floor(255 (x + 1) / 2 + 0.5): efficientvit's aecore/evaluator.py."""
    return tuple((255 * ((image.float() + 1) / 2) + 0.5).clamp_(0, 255).floor_().div_(255)
                 for image in (target, reconstruction))


def rae(target, reconstruction):
    """The reconstruction cut to the level below, the target at its own level: RAE's src/eval."""
    return rounded(target, target)[0], _clamped(reconstruction).mul_(255).floor_().div_(255)


def ldm(target, reconstruction):
    """Both cut to the level below: the PNGs of AutoencoderKL's eval.py."""
    return tuple(_clamped(image).mul_(255).floor_().div_(255) for image in (target, reconstruction))


PIXELS = {'rounded': rounded, 'clamped': clamped, 'raw': raw, 'va-vae': va_vae, 'dc-ae': dc_ae, 'rae': rae, 'ldm': ldm}
TITLES = {
    'rounded': 'clamped and rounded to 8 bits', 'clamped': 'clamped, not rounded', 'raw': 'neither clamped nor rounded',
    'va-vae': '8 bits, floor(127.5 x + 128)', 'dc-ae': '8 bits, floor(255 (x + 1) / 2 + 0.5)',
    'rae': '8 bits, reconstructions cut to the level below', 'ldm': '8 bits, both cut to the level below'}


def find_pixels(mode):
    """The function of a mode; SettingError lists the modes."""
    if mode not in PIXELS:
        raise SettingError(f'pixels={mode!r}: use one of {", ".join(PIXELS)}')
    return PIXELS[mode]


def _clamped(image):
    # In place after the first step, which copies: fresh memory costs more than the arithmetic.
    return image.float().clamp(-1, 1).add_(1).div_(2)
