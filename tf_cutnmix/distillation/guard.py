"""Steps that must not be taken, and what is wrong with the data of a call."""

import functools
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import DivergenceError
from tf_cutnmix.networks.foreign import every_layer

# Keras begins at 2^15: below this 25 gradients more were not finite than were.
_SMALLEST_SCALE = 2.0**-10
# What a batch holds, and what is to be done where it is not finite.
_DATA = {
    "pixel of an image": "Images are finite numbers",
    "label of a sample": "Labels are finite numbers, or whole ones below the number of classes",
    "weight of a sample": "Those of sample_weight and class_weight are finite numbers",
}
# What earlier steps did stays: at a rate of 1e6 the first one spoils weights that are still finite.
_TOO_LARGE = (
    "Train again with a lower learning rate, or lower weights of the terms beside the "
    "cross-entropy: steps before it may have spoiled the weights already"
)
_FROM_THE_START = (
    "No step was taken before it, so that no learning rate helps: look at the pixels, and at the "
    "weights that the networks began with"
)


class Guard:
    """Remembers the first step that must not be taken, and what was not finite in it.

    Args:
      term_names: of the loss.
      failed_step: a variable, -1 until a step fails.
      failed_term: a variable, the position of what failed in `watched`, which has it in words.
    """

    def __init__(
        self, term_names: Sequence[str], failed_step: keras.Variable, failed_term: keras.Variable
    ) -> None:
        of_the_loss = [f"{name} of the loss" for name in (*term_names, "gradient")]
        others = ("statistic of BatchNormalization", "gradient of many steps")
        self.watched = [*_DATA, *of_the_loss, *others]
        self.failed_step = failed_step
        self.failed_term = failed_term

    def allows(
        self,
        data: Sequence[tf.Tensor | None],
        terms: Sequence[tf.Tensor],
        gradients: Sequence[tf.Tensor],
        statistics: Sequence[tf.Tensor],
        step: tf.Tensor,
        scale: tf.Tensor | float,
    ) -> tf.Tensor:
        """Whether this step may be taken, a scalar bool; notes what fails first.

        Args:
          data: images, labels and weights of a batch; None where there are none.
          terms: of the loss, scalars.
          gradients: of the weights; empty if they need not be finite.
          statistics: as the step would make them.
          step: its number.
          scale: of the loss, which an optimizer halves with each gradient that overflows.
        """
        gradient = tf.linalg.global_norm([tf.zeros([]), *gradients])
        # Activations can overflow while all that comes after BatchNormalization is finite.
        floats = [tf.cast(v, tf.float32) for v in statistics if v.dtype.is_floating]
        statistic = tf.linalg.global_norm([tf.zeros([]), *floats])
        sound = [
            tf.reduce_all(tf.math.is_finite(tensor))
            if tensor is not None and tensor.dtype.is_floating
            else tf.constant(True)
            for tensor in data
        ]
        finite = tf.math.is_finite(tf.stack([*terms, gradient, statistic]))
        broken = ~tf.concat([sound, finite, [scale >= _SMALLEST_SCALE]], axis=0)
        earlier = self.failed_step.value >= 0
        first = tf.reduce_any(broken) & ~earlier
        self.failed_step.assign(tf.where(first, step, self.failed_step.value))
        self.failed_term.assign(tf.where(first, tf.argmax(broken), self.failed_term.value))
        return ~(earlier | first)

    def check(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        step = int(self.failed_step.value)
        if step >= 0:
            failed = self.watched[int(self.failed_term.value)]
            raise DivergenceError(
                f"step {step}: the {failed} is not finite; the model is as it was before that "
                f"step. {_DATA.get(failed, _TOO_LARGE if step else _FROM_THE_START)}"
            )


def checked(call: Callable) -> Callable:
    """A method that warns of pixels, and raises what `mixing.batch.require` says as in no graph.

    Raises:
      ValueError: in place of pages of where in the graph it was.
    """

    @functools.wraps(call)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            result = call(self, *args, **kwargs)
            self.brightness.warn()
            return result
        except tf.errors.InvalidArgumentError as error:
            reason = re.search(r"assertion failed: \[(.*\. Received:)\] \[(.*?)\]", error.message)
            if not reason:
                raise
            raise ValueError(" ".join(reason.groups())) from None

    return method


class Brightness:
    """Warns once where networks expect pixels of 0 to 255 and get those of 0 to 1.

    Dark pictures are no such pixels: they are whole numbers.
    """

    def __init__(self, networks: Sequence[keras.Model]) -> None:
        self._watches = any(map(_expects_bytes, networks))
        self._brightest = tf.Variable(-np.inf, dtype=tf.float32, trainable=False)

    def observe(self, images: tf.Tensor) -> None:
        if self._watches and images.dtype.is_floating:
            pixels = tf.cast(images, tf.float32)
            fractions = tf.reduce_any(pixels != tf.round(pixels))
            brightest = tf.where(fractions, tf.reduce_max(pixels), np.inf)
            self._brightest.assign(tf.maximum(self._brightest, brightest))

    def warn(self) -> None:
        brightest = self._brightest.numpy() if self._watches else np.inf
        self._brightest.assign(-np.inf)
        if -np.inf < brightest <= 1:
            self._watches = False
            warnings.warn(
                "no pixel of an image is above 1, and the networks expect pixels of 0 to 255: "
                "multiply the images by 255",
                stacklevel=3,
            )


def _expects_bytes(network: keras.Model) -> bool:
    """Whether a network has a layer that makes small numbers of pixels of 0 to 255."""
    for layer in every_layer(network):
        if isinstance(layer, keras.layers.Rescaling) and np.max(layer.scale) < 0.1:
            return True
        # Of pixels of 0 to 1 neither mean nor deviation is above 1.
        if isinstance(layer, keras.layers.Normalization) and np.max(layer.mean) > 1:
            return True
    return False
