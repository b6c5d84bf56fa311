"""Boxes and masks: how they are drawn, what is pasted by them, and how much they overlap."""

from typing import Any, NamedTuple

import tensorflow as tf

from tf_cutnmix.mixing import draws
from tf_cutnmix.mixing.batch import dimensions, has_label

_SPREAD_CANDIDATES = 8


class Draw(NamedTuple):
    """What was drawn for one batch of `B` images and `n` peers.

    Attributes:
      ratio: `[B]` float32 in [0, 1], Beta distributed: about how much of the image stays; 1 for
        samples that are not mixed.
      partner: `[B]` int32, a permutation: the image that each one is mixed with.
      boxes: `[B, n, 4]` int32: top, left, height, width of the region that each peer sees
        of the partner. Boxes lie inside the image; those of one image are of one size.
    """

    ratio: tf.Tensor
    partner: tf.Tensor
    boxes: tf.Tensor


class MaskDraw(NamedTuple):
    """What was drawn for one batch of `B` images of `H` rows and `W` columns.

    Attributes:
      ratio: as of `Draw`.
      partner: as of `Draw`.
      mask: `[B, H, W]` bool: the pixels that come from the partner.
    """

    ratio: tf.Tensor
    partner: tf.Tensor
    mask: tf.Tensor


def boxes(
    key: tf.Tensor, size: tf.Tensor, height: Any, width: Any, num_peers: int, regions: str
) -> tf.Tensor:
    """Boxes of given sizes, `[B, 2]` int32, in places of images: `[B, n, 4]` int32.

    Regions are "uniform" or "spread", see `CutNMix`.
    """
    candidates = 1 if regions == "uniform" else _SPREAD_CANDIDATES
    room = tf.stack([height, width]) - size + 1
    shape = [tf.shape(size)[0], candidates, num_peers, 2]
    corners = draws.integers(key, shape, room[:, None, None, :])
    shared = tf.reduce_sum(_shared_pixels(corners, size), axis=[-2, -1])  # (B, candidates)
    best = tf.argmin(shared, axis=-1, output_type=tf.int32)
    corners = tf.gather(corners, best, axis=1, batch_dims=1)  # (B, n, 2)
    return tf.concat([corners, tf.broadcast_to(size[:, None, :], tf.shape(corners))], axis=-1)


def apart(draw: Draw | MaskDraw, labels: tf.Tensor) -> Draw | MaskDraw:
    """A draw that mixes samples with labels among themselves, and those without likewise.

    Where all have one it stays as it is.

    Args:
      draw: for the whole batch.
      labels: `[B, K]`, of which a row that is all zero is no label.
    """
    kind = tf.cast(has_label(labels), tf.int32)
    # The n-th sample of a kind gets the n-th partner of that kind.
    places = tf.argsort(tf.argsort(kind, stable=True))
    partners = tf.gather(draw.partner, tf.argsort(tf.gather(kind, draw.partner), stable=True))
    return draw._replace(partner=tf.gather(partners, places))


def paste(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Each peer's view: the partner's pixels inside the peer's box, the image's own outside.

    Args:
      images: `[B, H, W, C]`, or a view for each peer `[B, n, H, W, C]`; any dtype.
      draw: with boxes for `n` peers; with one box for all of them where there are views.

    Returns:
      `[B, n, H, W, C]` of the same dtype, every value one of the input's, bit for bit; view
      k is mixed with the partner's view k.
    """
    batch, *several, height, width, channels = dimensions(images)
    count = several[0] if several else 1
    boxes = tf.unstack(draw.boxes, axis=1)
    # Columns and channels in one axis, and a select for each box: XLA copies memory in long
    # runs then, in a third of the time.
    rows = tf.reshape(images, [batch, count, height, width * channels])
    partners = tf.gather(rows, draw.partner)
    views = []
    for k, box in enumerate(boxes):
        own = slice(k, k + 1) if several and len(boxes) > 1 else slice(None)
        inside = _inside(box, height, width, channels)[:, None]
        views.append(tf.where(inside, partners[:, own], rows[:, own]))
    number = len(boxes) if len(boxes) > 1 else count
    return tf.reshape(tf.concat(views, axis=1), [batch, number, height, width, channels])


def mask(
    key: tf.Tensor, pasted: tf.Tensor, height: Any, width: Any, decay_power: float
) -> tf.Tensor:
    """Masks of FMix (Harris et al. 2020) of given numbers of pixels, `[B]`: `[B, H, W]` bool.

    A mask holds the highest pixels of low-frequency noise: of the real part of the inverse
    Fourier transform of complex Gaussian noise that is divided by
    `max(frequency, 1 / max(H, W)) ** decay_power`. The number of pixels is equal in eager,
    graph and XLA; so are the pixels themselves, but where the Fourier transform of another
    device or compiler rounds two nearly equal ones the other way round.
    """
    batch = tf.shape(pasted)[0]
    noise = draws.integers(key, [2, batch, height, width], draws.LEVELS)
    real, imaginary = tf.unstack(tf.gather(draws.normal_quantiles(), noise))
    rows, columns = _frequencies(height), _frequencies(width)
    frequency = tf.sqrt(rows[:, None] ** 2 + columns**2)
    lowest = 1 / tf.cast(tf.maximum(height, width), tf.float32)
    # Of the paper's weights this is a multiple that cannot overflow; ranks are the same.
    weight = (lowest / tf.maximum(frequency, lowest)) ** decay_power
    smooth = tf.math.real(tf.signal.ifft2d(tf.complex(weight * real, weight * imaginary)))
    highest = _highest(tf.reshape(smooth, [batch, height * width]), pasted)
    return tf.reshape(highest, [batch, height, width])


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


def _shared_pixels(corners: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Pixels that two boxes share: corners `[B, c, n, 2]`, size `[B, 2]` to `[B, c, n, n]`."""
    distance = tf.abs(corners[:, :, :, None, :] - corners[:, :, None, :, :])
    shared = tf.maximum(size[:, None, None, None, :] - distance, 0)
    return tf.reduce_prod(shared, axis=-1)


def _inside(
    box: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int, channels: tf.Tensor | int
) -> tf.Tensor:
    """Which values lie in one box of each image: `[B, 4]` int32 -> `[B, H, W * C]` bool."""
    top, left, box_height, box_width = tf.unstack(box[..., None], axis=1)
    rows, columns = tf.range(height), tf.range(width * channels)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left * channels) & (columns < (left + box_width) * channels)
    return in_rows[:, :, None] & in_columns[:, None, :]


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
