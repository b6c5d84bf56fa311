"""Tables from which a uniform integer draws a number of a distribution that XLA cannot sample."""

import functools

import numpy as np
import scipy.special

LEVELS = 2**16


@functools.lru_cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """The 2^16 equally likely ratios that stand for Beta(alpha, alpha), ascending, float32.

    They are the inverse CDF at (i + 1/2) / 2^16, so that a uniform integer draws a ratio, on
    any device and inside XLA, which has no sampler of its own for this distribution.
    """
    quantiles = scipy.special.betaincinv(alpha, alpha, _levels()).astype(np.float32)
    quantiles.flags.writeable = False
    return quantiles


@functools.lru_cache
def normal_quantiles() -> np.ndarray:
    """The 2^16 equally likely numbers that stand for the normal distribution, as above."""
    quantiles = scipy.special.ndtri(_levels()).astype(np.float32)
    quantiles.flags.writeable = False
    return quantiles


def _levels() -> np.ndarray:
    return (np.arange(LEVELS) + 0.5) / LEVELS
