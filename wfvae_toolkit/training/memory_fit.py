"""Settings with which a training fits into a device's memory, by counted peaks."""

import contextlib
import functools
from dataclasses import replace

from wfvae_toolkit.utils.errors import SettingError

MOST = 1024  # images of a micro-batch, where a search for the largest one ends


def largest_batch(peak_of, limit, most=MOST):
    """Largest batch whose ``peak_of(batch)``, in bytes, is at most ``limit``; 0 if one image does not fit.

    ``most`` is the largest that is tried: counting takes longer with it, as noise is drawn for each image.

    Peaks grow by nearly the same number of bytes for each image, so that few are counted: the next guess lies on the
    line through two of them.
    """
    fits, too_large, known = 0, most + 1, {}
    guess = 1
    while too_large - fits > 1:
        known[guess] = peak_of(guess)
        fits, too_large = (guess, too_large) if known[guess] <= limit else (fits, guess)
        guess = min(_next_guess(known, fits, too_large, limit), too_large - 1)
    return fits


def _next_guess(known, fits, too_large, limit):
    """A batch above ``fits``, on the line through it and another one that is known."""
    others = [too_large] if too_large in known else [batch for batch in known if batch < fits]
    slope = (known[max(others)] - known[fits]) / (max(others) - fits) if fits and others else 0
    # Far from the limit a peak may not depend on the batch.
    guess = fits + int((limit - known[fits]) / slope) if slope else min(2 * fits, (fits + too_large) // 2)
    return max(fits + 1, guess)


def ways_to_fit(load, count, limit, precision, factor):
    """Sentences that name changed settings with which a training fits, each with its counted peak; [] if none does.

    Args:
        load (Load): what does not fit.
        count (callable): Load -> Forecast.
        limit (int): bytes of the device.
        precision (str): of the config.
        factor (int): that divides the crops.
    """
    @functools.cache
    def peak(changed):
        return count(changed).largest.peak_bytes

    def batch_that_fits(changed):
        return largest_batch(lambda batch: peak(replace(changed, batch=batch)), limit)

    found = []

    def say(text, changed):
        total = peak(changed)
        if total <= limit:
            found.append(f'{text} ({total / 2**30:.2f} GiB)')

    batch = min(batch_that_fits(load), load.batch)
    if batch:
        accumulation = -(-load.batch * load.accumulation // batch)
        say(f'train_dataloader.batch_size={batch} with train_cfg.accumulation={accumulation}',
            replace(load, batch=batch, accumulation=accumulation))
    if precision == 'fp32':
        say('model.precision=bf16', replace(load, precision='bf16'))
    recomputed = replace(load, checkpoint_activations=True)
    if peak(recomputed) < peak(load):
        say('model.autoencoder.checkpoint_activations=True', recomputed)
    crop = load.edge // 2 // factor * factor
    with contextlib.suppress(SettingError):  # a network refuses smaller crops
        while crop >= factor and peak(replace(load, size=crop)) > limit:
            crop = crop // 2 // factor * factor
        if crop >= factor:
            say(f'crops of {crop} px' if isinstance(load.size, int) else f'sizes of {crop} x {crop} pixels',
                replace(load, size=crop))
    if not found:
        least = replace(recomputed, batch=1, precision='bf16', accumulation=max(load.accumulation, 2))
        say('all of model.precision=bf16, model.autoencoder.checkpoint_activations=True and '
            'train_dataloader.batch_size=1', least)
    return found
