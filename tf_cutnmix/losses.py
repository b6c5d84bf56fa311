"""The terms of the loss and the targets in them, as pure functions; all give float32."""

from collections.abc import Iterable

import tensorflow as tf

_STEPS = 20


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean over the batch of `-sum_c y_c log softmax(z)_c`.

    Args:
      labels: `[B, K]`, each row a distribution.
      logits: `[B, K]`.
    """
    return tf.reduce_mean(sample_cross_entropy(labels, logits))


def sample_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`-sum_c y_c log softmax(z)_c` of each sample, `[..., B]`, for logits `[..., B, K]`."""
    log_predictions = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_sum(labels * log_predictions, axis=-1)


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


def best_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """For each sample the logits of the peer with the least cross-entropy (KDCL-Naive).

    Args:
      labels: `[B, K]`.
      logits: `[n, B, K]`, of `n` peers.

    Returns:
      `[B, K]`.
    """
    best = tf.argmin(sample_cross_entropy(labels, logits), axis=0)
    return tf.gather(tf.transpose(logits, [1, 0, 2]), best, axis=1, batch_dims=1)


def least_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`min_i (z_i - <y, z_i>)` in each class: no peer is surer of a wrong class (KDCL-MinLogit).

    With a hard label `<y, z>` is the logit of its class, as in the paper; our definition for
    soft labels is this mean over them. Arguments and result as of `best_logits`.
    """
    own = tf.reduce_sum(labels * logits, axis=-1, keepdims=True)
    return tf.reduce_min(logits - own, axis=0)


def mixed_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`sum_i a_i z_i`, a the point of the simplex of least cross-entropy (KDCL-Linear).

    One `a` for the batch, found from the peers' mean by 20 steps of exponentiated gradient
    descent, of which one that does not help is taken back and the next is half as long; the
    problem is convex. Arguments and result as of `best_logits`.
    """
    # In float32 rounding decides whether a step near the optimum helps, and with it the result
    # in the third digit: other processors and compilers came to others.
    labels, logits = tf.cast(labels, tf.float64), tf.cast(logits, tf.float64)
    powers, rate = tf.zeros([logits.shape[0]], tf.float64), tf.constant(2.0, tf.float64)
    loss, direction = _loss_and_direction(labels, logits, powers)
    for _ in range(_STEPS):
        tried = powers - rate * direction
        tried_loss, tried_direction = _loss_and_direction(labels, logits, tried)
        helps = tried_loss < loss
        powers = tf.where(helps, tried, powers)
        loss = tf.where(helps, tried_loss, loss)
        direction = tf.where(helps, tried_direction, direction)
        rate = tf.where(helps, rate, rate / 2.0)
    return tf.cast(tf.tensordot(tf.nn.softmax(powers), logits, axes=1), tf.float32)


def feature_distance(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Squared distance of the unit vectors, mean over the batch; from 0 to 4.

    Args:
      features: `[B, D]`.
      target: `[B, D]`; gets no gradient.
    """
    difference = unit(features) - tf.stop_gradient(unit(target))
    return tf.reduce_mean(tf.reduce_sum(tf.square(difference), axis=-1))


def contrast(similarities: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
    """`-mean_a sum_b w_ab log(exp s_ab / sum_{c != a} exp s_ac) / sum_b w_ab`, b other than a.

    Samples without a positive count 0 (Khosla et al. 2020, equation 2).

    Args:
      similarities: `[B, B]`, already divided by their temperature.
      positives: `[B, B]`, how far two samples are of one class, 0 or more; the diagonal is
        not looked at.
    """
    own = tf.eye(tf.shape(similarities)[0])
    log_predictions = tf.nn.log_softmax(similarities - 1e9 * own)
    weights = positives * (1.0 - own)
    pulled = tf.reduce_sum(weights * log_predictions, axis=-1)
    return -tf.reduce_mean(tf.math.divide_no_nan(pulled, tf.reduce_sum(weights, axis=-1)))


def weight_decay(weights: Iterable[tf.Tensor], rate: float) -> tf.Tensor:
    """`rate / 2 * |w|^2` over all weights: the coupled decay of SGD."""
    return rate * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(weight)) for weight in weights])


def ramp(step: tf.Tensor, ramp_steps: int) -> tf.Tensor:
    """Sigmoid ramp-up `exp(-5 (1 - min(t, R) / R)^2)` (Laine and Aila 2017); 1 if R is 0."""
    if ramp_steps == 0:
        return tf.constant(1.0)
    progress = tf.minimum(tf.cast(step, tf.float32) / ramp_steps, 1.0)
    return tf.exp(-5.0 * tf.square(1.0 - progress))


def unit(features: tf.Tensor) -> tf.Tensor:
    """Rows of length 1, float32."""
    return tf.math.l2_normalize(tf.cast(features, tf.float32), axis=-1)


def _loss_and_direction(
    labels: tf.Tensor, logits: tf.Tensor, powers: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss of the mixture by `softmax(powers)`; its slopes, the largest of them 1."""
    mixture = tf.tensordot(tf.nn.softmax(powers), logits, axes=1)
    error = tf.nn.softmax(mixture) - labels
    slopes = tf.reduce_mean(tf.reduce_sum(error * logits, axis=-1), axis=-1)  # (n,)
    slopes -= tf.reduce_mean(slopes)
    largest = tf.maximum(tf.reduce_max(tf.abs(slopes)), 1e-6)
    entropies = -tf.reduce_sum(labels * tf.nn.log_softmax(mixture), axis=-1)
    return tf.reduce_mean(entropies), slopes / largest
