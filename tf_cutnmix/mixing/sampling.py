"""What is drawn for a batch, a function of (seed, step): ratios, partners, boxes or masks."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_cutnmix.mixing import draws
from tf_cutnmix.mixing.draws import LEVELS, beta_quantiles, normal_quantiles

_SPREAD_CANDIDATES = 8


class Draw(NamedTuple):
    """What was drawn for one batch of `B` images and `n` peers.

    Attributes:
      ratio: `[B]` float32 in [0, 1], Beta distributed: about how much of the image stays.
      partner: `[B]` int32, a permutation: the image that each one is mixed with.
      boxes: `[B, n, 4]` int32: top, left, height, width of the region that each peer sees
        of the partner. Boxes lie inside the image; those of one image are of one size.
    """

    ratio: tf.Tensor
    partner: tf.Tensor
    boxes: tf.Tensor

    def only(self, mixed: tf.Tensor) -> "Draw":
        """With ratio 1 and empty boxes for all samples but `mixed`, `[B]` bool."""
        sizes = tf.where(mixed[:, None, None], self.boxes[..., 2:], 0)
        boxes = tf.concat([self.boxes[..., :2], sizes], axis=-1)
        return self._replace(ratio=tf.where(mixed, self.ratio, 1.0), boxes=boxes)


def sample(
    seed: int,
    step: tf.Tensor | int,
    shape: tuple[Any, Any, Any],
    *,
    alpha: float,
    num_peers: int,
    ratio_per: str = "sample",
    regions: str = "uniform",
) -> Draw:
    """Draw ratios, partners and boxes; equal in eager, graph and XLA.

    Args:
      seed: a Python integer.
      step: number of the batch, a scalar.
      shape: batch size, height and width, numbers or scalar tensors.
      alpha: of Beta(alpha, alpha), above 0.
      num_peers: `n`, boxes per image.
      ratio_per: "sample" or "batch".
      regions: "uniform" corners, or "spread": of 8 uniform sets of corners the one whose
        boxes overlap least (an extension; uniform boxes have a mean pair IoU near 1/2).
    """
    batch, height, width = shape
    level = _ratio_levels(seed, step, batch, ratio_per)
    quantiles = beta_quantiles(alpha)
    # The distribution is symmetric: reversed, the table holds 1 - ratio in full precision.
    side = tf.gather(np.sqrt(quantiles[::-1]), level)
    size = tf.stack([_scaled(side, height), _scaled(side, width)], axis=-1)  # (B, 2)

    room = tf.stack([height, width]) - size + 1
    candidates = 1 if regions == "uniform" else _SPREAD_CANDIDATES
    corners = draws.integers(
        draws.key(seed, step, draws.Stream.CORNER),
        [batch, candidates, num_peers, 2],
        room[:, None, None, :],
    )
    shared = tf.reduce_sum(_shared_pixels(corners, size), axis=[-2, -1])  # (B, candidates)
    best = tf.argmin(shared, axis=-1, output_type=tf.int32)
    corners = tf.gather(corners, best, axis=1, batch_dims=1)  # (B, n, 2)
    sizes = tf.broadcast_to(size[:, None, :], tf.shape(corners))
    return Draw(
        ratio=tf.gather(quantiles, level),
        partner=draws.permutation(draws.key(seed, step, draws.Stream.PARTNER), batch),
        boxes=tf.concat([corners, sizes], axis=-1),
    )


def overlap(draw: Draw) -> tf.Tensor:
    """How much the peers' boxes overlap: mean intersection over union of two peers' boxes.

    Returns:
      A scalar float32 in [0, 1], the mean over the pairs of peers and over the samples whose
      boxes are not empty; 0 if there are none.
    """
    size, num_peers = draw.boxes[:, 0, 2:], tf.shape(draw.boxes)[1]
    shared = tf.cast(_shared_pixels(draw.boxes[:, None, :, :2], size)[:, 0], tf.float32)
    area = tf.cast(tf.reduce_prod(size, axis=-1), tf.float32)  # (B,)
    ious = tf.math.divide_no_nan(shared, 2 * area[:, None, None] - shared)  # (B, n, n)
    of_others = tf.linalg.set_diag(ious, tf.zeros_like(ious[..., 0]))
    pairs = tf.math.count_nonzero(area, dtype=tf.int32) * num_peers * (num_peers - 1)
    return tf.math.divide_no_nan(tf.reduce_sum(of_others), tf.cast(pairs, tf.float32))


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
    level = _ratio_levels(seed, step, batch, ratio_per)
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
    pasted = _scaled(tf.gather(quantiles[::-1], level), pixels)
    highest = _highest(tf.reshape(smooth, [batch, pixels]), pasted)
    return MaskDraw(
        ratio=tf.gather(quantiles, level),
        partner=draws.permutation(draws.key(seed, step, draws.Stream.PARTNER), batch),
        mask=tf.reshape(highest, [batch, height, width]),
    )


def _ratio_levels(
    seed: int, step: tf.Tensor | int, batch: tf.Tensor | int, ratio_per: str
) -> tf.Tensor:
    """Which of the 2^16 ratios each sample has: `[B]` int32."""
    level_key = draws.key(seed, step, draws.Stream.RATIO)
    level = draws.integers(level_key, [batch if ratio_per == "sample" else 1], LEVELS)
    return tf.broadcast_to(level, [batch])


def _scaled(part: tf.Tensor, pixels: tf.Tensor | int) -> tf.Tensor:
    """A part of so many pixels, rounded to nearest, int32."""
    return tf.cast(tf.round(part * tf.cast(pixels, tf.float32)), tf.int32)


def _shared_pixels(corners: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Pixels that two boxes share: corners `[B, c, n, 2]`, size `[B, 2]` to `[B, c, n, n]`."""
    distance = tf.abs(corners[:, :, :, None, :] - corners[:, :, None, :, :])
    shared = tf.maximum(size[:, None, None, None, :] - distance, 0)
    return tf.reduce_prod(shared, axis=-1)


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
