"""What Keras hands to a step: images, labels and weights, and what is wrong with them."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.mixing.batch import CLASS_NUMBERS, require, soft_labels
from tf_cutnmix.networks.foreign import every_layer


class Batch(NamedTuple):
    """A labelled batch.

    Attributes:
      images: `[B, H, W, C]`.
      labels: whole numbers `[B]`, or one-hot or soft `[B, K]`.
      weights: `[B]` float32, how much each sample counts; None if all count alike.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor | None


def unpack(data: Any, num_classes: int) -> Batch:
    """A batch from what Keras understands: a pair, a triple with weights, or a dictionary.

    Args:
      data: `(images, labels)`, `(images, labels, sample_weight)`, or a dictionary with "images",
        "labels" and perhaps "sample_weight". Labels are class numbers `[B]` or `[B, 1]`, of a
        float dtype if need be, or one-hot or soft `[B, K]`; weights are `[B]` or `[B, 1]`.
      num_classes: `K`.

    Raises:
      ValueError: it is none of them.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(images, Mapping) and labels is None:
        images, labels, weights = (images.get(n) for n in ("images", "labels", "sample_weight"))
    if images is None or labels is None:
        raise ValueError(
            "OnlineDistiller needs pairs (images, labels), triples with sample weights, or "
            "dictionaries with 'images' and 'labels'"
        )
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    if weights is not None:
        weights = tf.cast(weights, tf.float32)
        if weights.shape.rank not in (None, 1) and weights.shape[1:] != [1]:
            raise ValueError(f"sample weights must be [B] or [B, 1]. Received: {weights.shape}")
        weights = tf.reshape(weights, [-1])
    return Batch(images, _numbers_or_columns(images, labels, num_classes), weights)


def _numbers_or_columns(images: tf.Tensor, labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Labels `[B]` of whole numbers, or `[B, K]`."""
    if labels.shape.rank is None:
        # Keras forgets the rank where it was fitted with [B] and then with [B, 1].
        columns = tf.reshape(labels, [tf.shape(images)[0], -1])
        padding = num_classes - tf.shape(columns)[1]
        chosen = tf.cond(
            tf.equal(tf.shape(columns)[1], 1),
            lambda: soft_labels(_numbers(columns[:, 0], num_classes), num_classes),
            lambda: tf.pad(tf.cast(columns, tf.float32), [[0, 0], [0, padding]]),
        )
        return tf.ensure_shape(chosen, [None, num_classes])
    if labels.shape.rank == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return _numbers(labels, num_classes) if labels.shape.rank == 1 else labels


def _numbers(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Class numbers `[B]` of any numeric dtype as integers, -1 for what XLA lets pass."""
    if not labels.dtype.is_floating:
        return labels
    numbers = tf.cast(labels, tf.float64)
    known = (numbers == tf.round(numbers)) & (numbers >= 0) & (numbers < num_classes)
    require(known, CLASS_NUMBERS.format(num_classes - 1), labels)
    return tf.cast(tf.where(known, labels, -1), tf.int32)


class Brightness:
    """Warns once where networks expect pixels of 0 to 255 and get those of 0 to 1.

    It looks at the first batch of a call. Dark pictures are no such pixels: they are whole.

    Args:
      networks: that see the images.
    """

    def __init__(self, networks: Sequence[keras.Model]) -> None:
        self._watched = any(map(_expects_pixels, networks))
        self._brightest = tf.Variable(np.nan, dtype=tf.float32, trainable=False)

    def look(self, images: tf.Tensor) -> None:
        """Have a step look at its images, unless an earlier one has."""
        if not (self._watched and images.dtype.is_floating):
            return

        def brightest() -> tf.Tensor:
            pixels = tf.cast(images, tf.float32)
            fractions = tf.reduce_any(pixels != tf.round(pixels))
            return tf.where(fractions, tf.reduce_max(pixels), np.inf)

        known = self._brightest.read_value()
        new = tf.math.is_nan(known)
        self._brightest.assign(tf.cond(new, brightest, lambda: known))

    def forget(self) -> None:
        """Let another call begin."""
        self._brightest.assign(np.nan)

    def tell(self) -> None:
        """Warn, if there is a reason that was not told before."""
        if self._watched and self._brightest.numpy() <= 1:
            self._watched = False
            warnings.warn(
                "no pixel of the first batch is above 1, and the networks expect pixels of 0 to "
                "255: multiply the images by 255",
                stacklevel=4,
            )


def _expects_pixels(network: keras.Model) -> bool:
    """Whether a network has a layer that makes small numbers of pixels of 0 to 255."""
    for layer in every_layer(network):
        if isinstance(layer, keras.layers.Rescaling) and np.max(layer.scale) < 0.1:
            return True
        # Of pixels of 0 to 1 neither mean nor deviation is above 1.
        if isinstance(layer, keras.layers.Normalization) and np.max(layer.mean) > 1:
            return True
    return False


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Raise what `mixing.batch.require` says in a graph as it says it eagerly.

    Raises:
      ValueError: in place of pages of where in the graph it was.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        said = re.search(r"assertion failed: \[(.*\. Received:)\] \[(.*?)\]", error.message)
        if not said:
            raise
        raise ValueError(" ".join(said.groups())) from None
