"""The self-ensemble teacher: a moving average of every peer's weights."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix import sharing


def averaged_copies(peers: Sequence[keras.Model]) -> list[keras.Model]:
    """Networks of the same architectures, weights and sharing, that nothing trains."""
    joined = sharing.join(peers)
    return [
        copy
        for network in ([joined] if joined else peers)
        for copy in sharing.split(_untrained_copy(network))
    ]


def momentum_for(steps: int, memory: float) -> float:
    """The momentum whose memory `1 / (1 - m)` is a given part of a run's steps; 0 or more."""
    return max(0.0, 1.0 - 1.0 / max(memory * steps, 1.0))


def momentum_at(step: tf.Tensor, momentum: float) -> tf.Tensor:
    """`min(1 - 1 / (t + 1), m)`, scalar float32: the plain mean of all steps until it reaches m."""
    return tf.minimum(1.0 - 1.0 / (tf.cast(step, tf.float32) + 1.0), momentum)


def update(
    averages: Sequence[keras.Variable], values: Sequence[keras.Variable], momentum: tf.Tensor
) -> None:
    """`average <- m * average + (1 - m) * value`, for weights and BatchNorm statistics alike.

    Whole-number state (counters, seeds) has no average and is copied.
    """
    for average, value in zip(averages, values, strict=True):
        if keras.backend.is_float_dtype(average.dtype):
            average.assign(momentum * average + (1.0 - momentum) * tf.convert_to_tensor(value))
        else:
            average.assign(value)


def _untrained_copy(network: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.trainable = False
    return copy
