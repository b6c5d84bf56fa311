"""What a draw does to images and labels, as pure functions of these and the draw."""

import tensorflow as tf

from tf_cutnmix.mixing.sampling import Draw, MaskDraw


def paste(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Each peer's view: the partner's pixels inside the peer's box, the image's own outside.

    Args:
      images: `[B, H, W]`, `[B, H, W, C]`, or a view for each peer `[B, n, H, W, C]`; any dtype.
      draw: with boxes for `n` peers; with one box for all of them where there are views.

    Returns:
      `[B, n, H, W, ...]` of the same dtype, every value one of the input's, bit for bit; view
      k is mixed with the partner's view k.
    """
    batch, *rest = dimensions(images)
    count = rest.pop(0) if images.shape.rank == 5 else 1
    height, width, channels = rest if images.shape.rank > 3 else (*rest, 1)
    boxes = tf.unstack(draw.boxes, axis=1)
    # Columns and channels in one axis, and a select for each box: XLA copies memory in long
    # runs then, in a third of the time.
    rows = tf.reshape(images, [batch, count, height, width * channels])
    partners = tf.gather(rows, draw.partner)
    views = []
    for k, box in enumerate(boxes):
        own = slice(k, k + 1) if images.shape.rank == 5 and len(boxes) > 1 else slice(None)
        inside = _inside(box, height, width, channels)[:, None]
        views.append(tf.where(inside, partners[:, own], rows[:, own]))
    number = len(boxes) if len(boxes) > 1 else count
    return tf.reshape(tf.concat(views, axis=1), [batch, number, *rest])


def paste_mask(images: tf.Tensor, draw: MaskDraw) -> tf.Tensor:
    """The partner's pixels where the mask is true, the image's own elsewhere.

    Args:
      images: `[B, H, W]`, `[B, H, W, C]` or views `[B, n, H, W, C]`, any dtype.
      draw: with a mask of the images' size, which all views share.

    Returns:
      Images of the same shape and dtype, every value one of the input's, bit for bit.
    """
    views = images if images.shape.rank == 5 else images[:, None]
    mask = draw.mask[:, None]
    mask = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (views.shape.rank - 4)], axis=0))
    return as_came(images, tf.where(mask, tf.gather(views, draw.partner), views))


# What can be blended without losing digits.
BLENDED = (
    *(tf.uint8, tf.int8, tf.uint16, tf.int16, tf.uint32, tf.int32),
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64),
)


def blend(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """`ratio * image + (1 - ratio) * partner`; whole-number dtypes are rounded to nearest.

    Args:
      images: `[B, ...]` of one of `BLENDED`.
      draw: of which the boxes are not used.

    Returns:
      Images of the same shape and dtype.
    """
    exact = images.dtype in (tf.float64, tf.int32, tf.uint32)  # more digits than float32 has
    dtype = tf.float64 if exact else tf.float32
    values = tf.cast(images, dtype)
    ratio = tf.reshape(tf.cast(draw.ratio, dtype), [-1] + [1] * (len(images.shape) - 1))
    mixed = ratio * values + (1 - ratio) * tf.gather(values, draw.partner)
    return tf.cast(tf.round(mixed) if images.dtype.is_integer else mixed, images.dtype)


def mix_labels(
    labels: tf.Tensor, partner: tf.Tensor, own: tf.Tensor, whole: tf.Tensor
) -> tf.Tensor:
    """`(own * label + (whole - own) * partner's label) / whole`.

    Args:
      labels: `[B, K]` float32.
      partner: `[B]` int32.
      own: `[B]`, the part of the sample that stays, counted as `whole` is.
      whole: a scalar. Counts of pixels are exact in float32 up to 2^24 of them.
    """
    own = tf.cast(own, labels.dtype)[:, None]
    whole = tf.cast(whole, labels.dtype)
    return (own * labels + (whole - own) * tf.gather(labels, partner)) / whole


def labels_by_area(
    labels: tf.Tensor, draw: Draw, height: tf.Tensor | int, width: tf.Tensor | int
) -> tf.Tensor:
    """Labels `[B, K]` float32 mixed by the pixels in the boxes, which all peers share."""
    pixels = height * width
    pasted = draw.boxes[:, 0, 2] * draw.boxes[:, 0, 3]
    return mix_labels(labels, draw.partner, pixels - pasted, pixels)


def dimensions(images: tf.Tensor) -> list[tf.Tensor | int]:
    """The shape, with numbers where they are known."""
    dynamic = tf.shape(images)
    return [dynamic[i] if size is None else size for i, size in enumerate(images.shape)]


def sides(images: tf.Tensor) -> tuple[tf.Tensor | int, tf.Tensor | int]:
    """Height and width."""
    first = 2 if images.shape.rank == 5 else 1
    height, width = dimensions(images)[first : first + 2]
    return height, width


def as_came(images: tf.Tensor, mixed: tf.Tensor) -> tf.Tensor:
    """Mixed `[B, 1, H, W, ...]` without the axis of views, if the images came without it."""
    return mixed if images.shape.rank == 5 else mixed[:, 0]


def _inside(
    box: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int, channels: tf.Tensor | int
) -> tf.Tensor:
    """Which values lie in one box of each image: `[B, 4]` int32 -> `[B, H, W * C]` bool."""
    top, left, box_height, box_width = tf.unstack(box[..., None], axis=1)
    rows, columns = tf.range(height), tf.range(width * channels)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left * channels) & (columns < (left + box_width) * channels)
    return in_rows[:, :, None] & in_columns[:, None, :]
