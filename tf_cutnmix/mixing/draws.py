"""Random draws that are a function of (seed, step), wherever they are made.

TensorFlow's random floats differ between eager execution and XLA; its full-range Philox
integers do not. Everything is made from those by integer arithmetic, so one seed gives one
batch in eager, graph and XLA, in any thread and for any number of workers.
"""

import enum
import functools
import random
from typing import Any

import keras
import numpy as np
import scipy.special
import tensorflow as tf

# As many numbers stand for a distribution that XLA cannot sample: a uniform integer draws one.
LEVELS = 2**16
_MIDDLES = (np.arange(LEVELS) + 0.5) / LEVELS


class Stream(enum.IntEnum):
    """What a draw is for; draws of different streams are independent."""

    CROP = 0
    FLIP = 1
    RATIO = 2
    PARTNER = 3
    CORNER = 4
    NOISE = 5
    OPERATION = 6
    DEPTH = 7
    WEIGHT = 8
    STRENGTH = 9
    WHETHER = 10
    CROP_SIZE = 11


def key(seed: tf.Tensor | int, step: tf.Tensor | int, stream: Stream) -> tf.Tensor:
    """The key `[2]` int64 of one stream of draws at one step.

    Args:
      seed: a whole number from 0 to 2^55, or a tensor that holds such.
      step: number of the step.
      stream: what the draw is for.
    """
    return tf.stack([tf.cast(seed, tf.int64) * 2**8 + stream, tf.cast(step, tf.int64)])


def integers(key: tf.Tensor, shape: Any, bound: tf.Tensor | int) -> tf.Tensor:
    """Uniform int32 of a shape in `[0, bound)`; the bound, up to 2^31, broadcasts to the shape."""
    bits = tf.random.stateless_uniform(shape, key, None, None, tf.uint32, alg="philox")
    scaled = tf.cast(bits, tf.int64) * tf.cast(bound, tf.int64)
    return tf.cast(tf.bitwise.right_shift(scaled, tf.constant(32, tf.int64)), tf.int32)


def permutation(key: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """A uniform permutation of `range(size)`, `[size]` int32."""
    return tf.argsort(integers(key, [size], 2**31), stable=True)


@functools.lru_cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """The 2^16 equally likely ratios that stand for Beta(alpha, alpha), and what is left of 1.

    Returns:
      `[2, 2^16 + 1]` float32: the ratios, ascending, and below each of them 1 - ratio in full
      precision, as the distribution is symmetric. Last come 1 and 0, which nothing draws.
    """
    ratios = scipy.special.betaincinv(alpha, alpha, _MIDDLES)
    return np.stack([np.append(ratios, 1.0), np.append(ratios[::-1], 0.0)]).astype(np.float32)


@functools.lru_cache
def normal_quantiles() -> np.ndarray:
    """The 2^16 equally likely numbers that stand for the normal distribution, float32."""
    return scipy.special.ndtri(_MIDDLES).astype(np.float32)


class SteppedLayer(keras.layers.Layer):
    """A layer whose draws are a function of (seed, step).

    It counts its own training calls, in a weight that is saved with it. A caller that has a
    step of its own passes it and leaves the count alone: a parallel `tf.data` map must.

    Args:
      seed: a whole number from 0 to 2^55; drawn from Python's `random` if None.

    Raises:
      ValueError: the seed is out of range.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        # Autocasting would round labels and change the dtype of images.
        super().__init__(autocast=False, **kwargs)
        if seed is None:
            seed = random.randrange(2**31)
        if not 0 <= seed < 2**55 or seed != int(seed):
            raise ValueError(f"seed must be from 0 to 2^55, and whole. Received: seed={seed}")
        self.seed = int(seed)
        self.calls = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", trainable=False, name="calls"
        )
        self.built = True

    def next_step(self, step: tf.Tensor | int | None) -> tf.Tensor | int:
        """The caller's step, or else the number of calls before this one."""
        if step is not None:
            return step
        calls = tf.identity(self.calls.value)
        self.calls.assign_add(1)
        return calls

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
