"""A step in which something is no longer a finite number is not taken, nor any after it."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.errors import DivergenceError

# Keras begins at 2^15: below this 25 gradients more were not finite than were.
_SMALLEST_SCALE = 2.0**-10
# What a step is given, and what is to be done where it is not finite.
_GIVEN = {
    "pixel of an image": "Images are finite numbers",
    "label of a sample": "Labels are finite numbers, or whole ones below the number of classes",
    "weight of a sample": "Those of sample_weight and class_weight are finite numbers",
}
_TOO_LARGE = "Lower the learning rate or the weight of the term"


class Guard:
    """Remembers the first step that must not be taken, and what was not finite in it.

    Args:
      term_names: of the loss.
      failed_step: a variable, -1 until a step fails.
      failed_term: a variable, the position in `watched` of what failed.

    Attributes:
      watched: all that must be finite, in words.
    """

    def __init__(
        self,
        term_names: Sequence[str],
        failed_step: keras.Variable,
        failed_term: keras.Variable,
    ) -> None:
        of_the_loss = [f"{name} of the loss" for name in (*term_names, "gradient")]
        others = ("statistic of BatchNormalization", "gradient of many steps")
        self.watched = [*_GIVEN, *of_the_loss, *others]
        self.failed_step = failed_step
        self.failed_term = failed_term

    def allows(
        self,
        given: Sequence[tf.Tensor | None],
        terms: Sequence[tf.Tensor],
        gradients: Sequence[tf.Tensor],
        statistics: Sequence[tf.Tensor],
        step: tf.Tensor,
        scale: tf.Tensor | float = 1.0,
    ) -> tf.Tensor:
        """Whether this step may be taken, a scalar bool; notes what fails first.

        Args:
          given: images, labels and weights of a batch; None where there are none.
          terms: of the loss, scalars, as many as there are names.
          gradients: of the weights; empty if they need not be finite.
          statistics: as the step would make them.
          step: number of the step.
          scale: of the loss, by an optimizer that halves it with each gradient that overflows.
        """
        gradient = tf.linalg.global_norm([tf.zeros([]), *gradients])
        # Activations can overflow while all that comes after BatchNormalization is finite.
        floats = [tf.cast(v, tf.float32) for v in statistics if v.dtype.is_floating]
        statistic = tf.linalg.global_norm([tf.zeros([]), *floats])
        sound = [_all_finite(tensor) for tensor in given]
        finite = tf.math.is_finite(tf.stack([*terms, gradient, statistic]))
        broken = ~tf.concat([sound, finite, [scale >= _SMALLEST_SCALE]], axis=0)
        earlier = self.failed_step.value >= 0
        first = tf.reduce_any(broken) & ~earlier
        self.failed_step.assign(tf.where(first, step, self.failed_step.value))
        term = tf.argmax(broken)
        self.failed_term.assign(tf.where(first, term, self.failed_term.value))
        return ~(earlier | first)

    def forget(self) -> None:
        """Let training begin anew."""
        self.failed_step.assign(-1)

    def check(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        step = int(self.failed_step.value)
        if step >= 0:
            failed = self.watched[int(self.failed_term.value)]
            raise DivergenceError(
                f"step {step}: the {failed} is not finite; the model is as it was before that "
                f"step. {_GIVEN.get(failed, _TOO_LARGE)}"
            )


def _all_finite(tensor: tf.Tensor | None) -> tf.Tensor:
    if tensor is None or not tensor.dtype.is_floating:
        return tf.constant(True)
    return tf.reduce_all(tf.math.is_finite(tensor))
