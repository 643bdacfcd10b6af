"""Means over images and how sure they are."""

import functools
import math

import numpy as np

FEWEST = 5  # images; an interval of fewer is so wide that it says nothing, and is not shown


def statistics(values):
    """Floats -> dict of ``mean``, ``ci95``, ``infinite``, ``nan``.

    Infinite values are left out of the mean and counted. A NaN means that an image failed. It is counted, and the
    mean is None, because a mean of the other images would hide the failure.
    """
    finite = [value for value in values if math.isfinite(value)]
    nan = sum(map(math.isnan, values))
    mean = ci95 = None
    if finite and not nan:
        mean = math.fsum(finite) / len(finite)
        if len(finite) > 1:
            variance = math.fsum((value - mean)**2 for value in finite) / (len(finite) - 1)
            ci95 = student_t(len(finite) - 1) * math.sqrt(variance / len(finite))
    return {'mean': mean, 'ci95': ci95, 'infinite': len(values) - len(finite) - nan, 'nan': nan}


def mean_of_batch_means(values, size):
    """The mean of the means of runs of ``size`` values, of which the last may be shorter; as some scripts average.

    It is the mean of all values if ``size`` divides their number. None if a value is not finite.
    """
    if not all(map(math.isfinite, values)):
        return None
    runs = [values[start:start + size] for start in range(0, len(values), size)]
    return math.fsum(math.fsum(run) / len(run) for run in runs) / len(runs)


def block_interval(values):
    """One value for each block of images -> half-width of the 95 % interval of their mean; None without blocks.

    Of a jackknife the values are its pseudo-values. The difference of two scores has the interval of the differences
    of their blocks, which hold the same images.
    """
    return statistics(values)['ci95'] if values else None


def paired_difference(base, other):
    """Values of the same images twice -> ``statistics`` of ``other - base``, image by image.

    Its ``ci95`` is that of the paired t-test: the spread between images, which both have in common, does not count.
    Equal values differ by 0, infinite ones too.
    """
    return statistics([0.0 if before == after else after - before
                       for before, after in zip(base, other, strict=True)])


@functools.lru_cache
def student_t(freedom, confidence=0.95):
    """|t| below which a Student t of ``freedom`` degrees lies with that probability: 12.706 for 1, 1.96 for many.

    Bisects the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    steps = np.arange(1 + freedom % 2, freedom - 1, 2)
    ratios = steps / (steps + 1)

    def probability(t):
        angle = math.atan(t / math.sqrt(freedom))
        series = 1 + np.cumprod(ratios * math.cos(angle)**2).sum()
        if freedom % 2 == 0:
            return math.sin(angle) * series
        return 2 / math.pi * (angle + (math.sin(angle) * math.cos(angle) * series if freedom > 1 else 0))

    low, high = 0.0, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < confidence else (low, middle)
    return high
