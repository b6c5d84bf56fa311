"""What is wrong with the images and labels that Keras hands to a step, each told in a line."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf


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
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Rescaling) and np.max(layer.scale) < 0.1:
            return True
        # Of pixels of 0 to 1 neither mean nor deviation is above 1.
        if isinstance(layer, keras.layers.Normalization) and np.max(layer.mean) > 1:
            return True
    return False


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Raise what `mixing.labels.require` says in a graph as it says it eagerly.

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
