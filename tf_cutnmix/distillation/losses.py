"""The terms of the loss and what they are made of, as pure functions; all give float32."""

from collections.abc import Iterable, Sequence

import tensorflow as tf


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Mean of `-sum_c y_c log softmax(z)_c` over the samples that count; 0 if none does.

    Args:
      labels: `[B, K]`, each row a distribution, or one whose classes have weights; all zero where
        the sample does not count.
      logits: `[B, K]`.
      counts: `[B]` bool.
    """
    number = tf.cast(tf.math.count_nonzero(counts), tf.float32)
    # Where all count this is 1, and the mean that of the batch to the bit.
    scale = tf.math.divide_no_nan(tf.cast(tf.size(counts), tf.float32), number)
    return scale * tf.reduce_mean(sample_cross_entropy(labels, logits))


def sample_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`-sum_c y_c log softmax(z)_c` of each sample, `[..., B]`, for logits `[..., B, K]`."""
    log_predictions = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_sum(labels * log_predictions, axis=-1)


def soften(logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """`softmax(z / T)`, `[B, K]` float32."""
    return tf.nn.softmax(tf.cast(logits, tf.float32) / temperature)


def sharpen(probabilities: tf.Tensor) -> tf.Tensor:
    """`p_c^2 / sum_k p_k^2`, `[B, K]`: as by half the temperature."""
    squares = tf.square(probabilities)
    return squares / tf.reduce_sum(squares, axis=-1, keepdims=True)


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


def imitation(
    target: tf.Tensor, logits: tf.Tensor, temperature: float, *, stop_target: bool = True
) -> tf.Tensor:
    """`T^2 KL(softmax(t / T) || softmax(z / T))`, mean over the batch.

    Args:
      target: `[B, K]` logits.
      logits: `[B, K]`.
      temperature: above 0.
      stop_target: whether the target gets no gradient.
    """
    target = tf.cast(tf.stop_gradient(target) if stop_target else target, tf.float32)
    log_target = tf.nn.log_softmax(target / temperature)
    log_predictions = tf.nn.log_softmax(tf.cast(logits, tf.float32) / temperature)
    divergence = tf.reduce_sum(tf.exp(log_target) * (log_target - log_predictions), axis=-1)
    return temperature**2 * tf.reduce_mean(divergence)


def imitate_each(
    targets: Sequence[tf.Tensor],
    logits: Sequence[tf.Tensor],
    temperature: float,
    *,
    stop_target: bool = True,
) -> tf.Tensor:
    """The sum of the imitations of each target by the logits in its place."""
    pairs = zip(targets, logits, strict=True)
    return tf.add_n([imitation(t, z, temperature, stop_target=stop_target) for t, z in pairs])


def mutual(
    logits: Sequence[tf.Tensor],
    temperature: float,
    targets: Sequence[tf.Tensor] | None = None,
) -> tf.Tensor:
    """`sum_i mean_{j != i} KD(t_j -> i)`, the targets the logits unless given; 0 for one peer."""
    peers = range(len(logits))
    if len(peers) == 1:
        return tf.constant(0.0)
    targets = logits if targets is None else targets
    pairs = [(j, i) for i in peers for j in peers if j != i]
    distances = [imitation(targets[j], logits[i], temperature) for j, i in pairs]
    return tf.add_n(distances) / (len(peers) - 1)


def weight_decay(weights: Iterable[tf.Tensor], rate: float) -> tf.Tensor:
    """`rate / 2 * |w|^2` over all weights: the coupled decay of SGD."""
    return rate * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(weight)) for weight in weights])


def unit(features: tf.Tensor) -> tf.Tensor:
    """Rows of length 1, float32."""
    return tf.math.l2_normalize(tf.cast(features, tf.float32), axis=-1)
