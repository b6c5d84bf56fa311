"""The terms of the loss as pure functions; all compute in float32 and return a scalar."""

from collections.abc import Iterable

import tensorflow as tf


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean over the batch of `-sum_c y_c log softmax(z)_c`.

    Args:
      labels: `[B, K]`, each row a distribution.
      logits: `[B, K]`.
    """
    log_predictions = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_mean(tf.reduce_sum(labels * log_predictions, axis=-1))


def soften(logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """`softmax(z / T)`, `[B, K]` float32."""
    return tf.nn.softmax(tf.cast(logits, tf.float32) / temperature)


def distillation(target: tf.Tensor, logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """`T^2 KL(target || softmax(z / T))`, mean over the batch (Hinton et al. 2015).

    Args:
      target: `[B, K]` float32, softened at the same temperature; gets no gradient.
      logits: `[B, K]`.
      temperature: above 0.
    """
    target = tf.stop_gradient(target)
    log_predictions = tf.nn.log_softmax(tf.cast(logits, tf.float32) / temperature)
    divergence = tf.math.xlogy(target, target) - target * log_predictions
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(divergence, axis=-1))


def feature_distance(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Squared distance of the unit vectors, mean over the batch; from 0 to 4.

    Args:
      features: `[B, D]`.
      target: `[B, D]`; gets no gradient.
    """
    difference = _unit(features) - tf.stop_gradient(_unit(target))
    return tf.reduce_mean(tf.reduce_sum(tf.square(difference), axis=-1))


def weight_decay(weights: Iterable[tf.Tensor], rate: float) -> tf.Tensor:
    """`rate / 2 * |w|^2` over all weights: the coupled decay of SGD."""
    return rate * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(weight)) for weight in weights])


def ramp(step: tf.Tensor, ramp_steps: int) -> tf.Tensor:
    """Sigmoid ramp-up `exp(-5 (1 - min(t, R) / R)^2)` (Laine and Aila 2017); 1 if R is 0."""
    if ramp_steps == 0:
        return tf.constant(1.0)
    progress = tf.minimum(tf.cast(step, tf.float32) / ramp_steps, 1.0)
    return tf.exp(-5.0 * tf.square(1.0 - progress))


def _unit(features: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(tf.cast(features, tf.float32), axis=-1)
