"""Resizing in operations that every converter knows."""

import tensorflow as tf


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Pixels `[N, H, W, C]` of 0 to 255 at `(height, width)`, rounded to whole numbers, float32.

    The filter of `data.resize`, as a matrix product for each axis. LiteRT, ONNX and OpenVINO
    cannot convert TensorFlow's own operation. A pixel whose exact value is next to a half may be
    rounded to the other side.
    """
    # Why there are two: of photos TensorFlow's operation takes a small part of the time, as it
    # multiplies by no zeros, and gathering the rows that count is no match for it either.
    # No tf.cond for images that have the size already: OpenVINO takes the wrong branch.
    pixels = tf.cast(images, tf.float32)
    for length in size:
        pixels = _along_the_rows(pixels, length)
    return tf.reshape(tf.round(pixels), [-1, *size, images.shape[-1]])


def _along_the_rows(images: tf.Tensor, length: int) -> tf.Tensor:
    """`[N, H, W, C]` to `[N, W, length, C]`: the axes change places, so that twice does both."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    channels = images.shape[-1] or channels
    rows = tf.reshape(images, [count, height, width * channels])
    resized = tf.matmul(_weights(height, length), rows)
    return tf.transpose(tf.reshape(resized, [count, length, width, channels]), [0, 2, 1, 3])


def _weights(before: tf.Tensor, after: int) -> tf.Tensor:
    """The triangle filter from `before` to `after` pixels, `[after, before]`; rows sum to 1."""
    scale = tf.cast(before, tf.float32) / after
    centres = (tf.range(after, dtype=tf.float32) + 0.5) * scale
    distances = tf.abs(tf.range(tf.cast(before, tf.float32)) + 0.5 - centres[:, tf.newaxis])
    weights = tf.maximum(1.0 - distances / tf.maximum(scale, 1.0), 0.0)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
