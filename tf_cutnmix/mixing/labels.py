"""Labels as distributions over the classes, and what a draw does to them."""

import numpy as np
import tensorflow as tf

from tf_cutnmix.mixing.sampling import Draw

CLASS_NUMBERS = "labels must be whole numbers from 0 to num_classes - 1 = {}"


def soft_labels(labels: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    """Labels `[B, K]` float32, from one-hot or soft ones or, given `num_classes`, integers `[B]`.

    Raises:
      ValueError: they are no such labels.
      ValueError, in a graph tf.errors.InvalidArgumentError: a class number is out of range, or a
        soft label not finite. XLA compiles no such check: there, what is no class has NaN for a
        label.
    """
    received = f"Received: {labels.dtype.name} labels of shape {labels.shape}"
    if labels.shape.rank == 1 and labels.dtype.is_integer:
        if num_classes is None:
            raise ValueError(f"integer labels need num_classes. {received}")
        # A float64 keeps the order of whole numbers of any dtype; an int64 has not all of them.
        numbers = tf.cast(labels, tf.float64)
        in_range = (numbers >= 0) & (numbers < num_classes)
        require(in_range, CLASS_NUMBERS.format(num_classes - 1), labels)
        one_hot = tf.one_hot(tf.cast(labels, tf.int32), num_classes)
        return tf.where(in_range[:, None], one_hot, np.nan)
    if labels.shape.rank != 2 or labels.dtype in (tf.bool, tf.string):
        raise ValueError(
            "labels must be one-hot or soft [B, K], or integers [B] with num_classes given. "
            + received
        )
    if labels.shape[1] == 1 and num_classes != 1:
        raise ValueError(f"labels [B, 1] hold one class: drop the last axis. {received}")
    if num_classes is not None and labels.shape[1] not in (None, num_classes):
        raise ValueError(f"labels must have num_classes={num_classes} columns. {received}")
    labels = tf.cast(labels, tf.float32)
    flat = tf.reshape(labels, [-1])
    require(tf.math.is_finite(flat), "labels must be finite numbers", flat)
    return labels


def require(good: tf.Tensor, words: str, values: tf.Tensor) -> None:
    """Say what the first of some values `[N]` is that is not good, `[N]` bool, if there is one.

    Raises:
      ValueError: there is one, eagerly.
      tf.errors.InvalidArgumentError: likewise in a graph; XLA compiles no such check.
    """
    first = tf.argmin(tf.concat([tf.cast(good, tf.int32), [0]], axis=0))
    value = tf.concat([values, tf.zeros([1], values.dtype)], axis=0)[first]
    if not tf.executing_eagerly():
        tf.debugging.Assert(tf.reduce_all(good), [f"{words}. Received:", value])
    elif first < len(good):
        raise ValueError(f"{words}. Received: {value}")


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


def weigh(labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Labels `[B, K]` float32 that count as much as `weights` `[B]` say, `weight * label`.

    A cross-entropy is linear in its labels, and so is mixing: mixed, these are the labels of
    mixed samples of which each part counts by its own weight.
    """
    return labels * tf.cast(weights, labels.dtype)[:, None]


def unweigh(weighted: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The labels `[B, K]` that weights `[B]` make `weighted`; zeros where a weight is 0."""
    return tf.math.divide_no_nan(weighted, weights[:, None])


def labels_by_area(
    labels: tf.Tensor, draw: Draw, height: tf.Tensor | int, width: tf.Tensor | int
) -> tf.Tensor:
    """Labels `[B, K]` float32 mixed by the pixels in the boxes, which all peers share."""
    pixels = height * width
    pasted = draw.boxes[:, 0, 2] * draw.boxes[:, 0, 3]
    return mix_labels(labels, draw.partner, pixels - pasted, pixels)
