"""FMix (Harris et al. 2020): what is drawn for a batch are masks of any shape."""

from typing import Any, NamedTuple

import tensorflow as tf

from tf_cutnmix.mixing import draws
from tf_cutnmix.mixing.quantiles import LEVELS, beta_quantiles, normal_quantiles
from tf_cutnmix.mixing.sampling import ratio_levels, scaled


class MaskDraw(NamedTuple):
    """What was drawn for one batch of `B` images of `H` rows and `W` columns.

    Attributes:
      ratio: `[B]` float32 in [0, 1], Beta distributed: about how much of the image stays.
      partner: `[B]` int32, a permutation: the image that each one is mixed with.
      mask: `[B, H, W]` bool: the pixels that come from the partner.
    """

    ratio: tf.Tensor
    partner: tf.Tensor
    mask: tf.Tensor

    def only(self, mixed: tf.Tensor) -> "MaskDraw":
        """With ratio 1 and empty masks for all samples but `mixed`, `[B]` bool."""
        mask = self.mask & mixed[:, None, None]
        return self._replace(ratio=tf.where(mixed, self.ratio, 1.0), mask=mask)


def sample_mask(
    seed: int,
    step: tf.Tensor | int,
    shape: tuple[Any, Any, Any],
    *,
    alpha: float,
    decay_power: float = 3.0,
    ratio_per: str = "sample",
) -> MaskDraw:
    """Draw ratios, partners and the masks of FMix (Harris et al. 2020).

    A mask holds the `round((1 - ratio) H W)` highest pixels of low-frequency noise: of the
    real part of the inverse Fourier transform of complex Gaussian noise that is divided by
    `max(frequency, 1 / max(H, W)) ** decay_power`. The number of pixels is equal in eager,
    graph and XLA; so are the pixels themselves, but where the Fourier transform of another
    device or compiler rounds two nearly equal ones the other way round.

    Args:
      seed: a Python integer.
      step: number of the batch, a scalar.
      shape: batch size, height and width, numbers or scalar tensors.
      alpha: of Beta(alpha, alpha), above 0.
      decay_power: 0 or more; the higher, the fewer and smoother the pieces of a mask.
      ratio_per: "sample" or "batch".
    """
    batch, height, width = shape
    level = ratio_levels(seed, step, batch, ratio_per)
    quantiles = beta_quantiles(alpha)
    noise_key = draws.key(seed, step, draws.Stream.NOISE)
    noise = draws.integers(noise_key, [2, batch, height, width], LEVELS)
    real, imaginary = tf.unstack(tf.gather(normal_quantiles(), noise))

    rows, columns = _frequencies(height), _frequencies(width)
    frequency = tf.sqrt(rows[:, None] ** 2 + columns**2)
    lowest = 1 / tf.cast(tf.maximum(height, width), tf.float32)
    # Of the paper's weights this is a multiple that cannot overflow; ranks are the same.
    weight = (lowest / tf.maximum(frequency, lowest)) ** decay_power
    smooth = tf.math.real(tf.signal.ifft2d(tf.complex(weight * real, weight * imaginary)))

    pixels = height * width
    pasted = scaled(tf.gather(quantiles[::-1], level), pixels)
    highest = _highest(tf.reshape(smooth, [batch, pixels]), pasted)
    return MaskDraw(
        ratio=tf.gather(quantiles, level),
        partner=draws.permutation(draws.key(seed, step, draws.Stream.PARTNER), batch),
        mask=tf.reshape(highest, [batch, height, width]),
    )


def _frequencies(size: tf.Tensor | int) -> tf.Tensor:
    """Absolute frequencies of a discrete Fourier transform, in cycles per pixel: `[size]`."""
    index = tf.range(size)
    return tf.cast(tf.minimum(index, size - index), tf.float32) / tf.cast(size, tf.float32)


def _highest(values: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Which of `[B, P]` float32 are the `number` `[B]` highest of their row, exactly as many.

    Of equal values the later ones are higher; `P` is at most 2^24. A search for the lowest key
    that is in: XLA's sort takes ten times as long on a CPU.
    """
    bits = tf.bitcast(values, tf.int32)
    ascending = tf.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    places = tf.range(tf.shape(values)[1], dtype=tf.int32)
    keys = tf.cast(ascending, tf.int64) * 2**24 + tf.cast(places, tf.int64)
    lowest = tf.fill(tf.shape(number), tf.constant(-(2**55), tf.int64))
    for bit in reversed(range(56)):
        raised = lowest + 2**bit
        reached = tf.math.count_nonzero(keys >= raised[:, None], axis=-1, dtype=tf.int32)
        lowest = tf.where(reached >= number, raised, lowest)
    return keys >= lowest[:, None]
