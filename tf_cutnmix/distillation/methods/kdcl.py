"""Knowledge distillation by collaborative learning (Guo et al. 2020), in its four variants."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, HeldOutPart, Method, Peers, Term, recipe

_STEPS = 20


@recipe(temperature=2.0, min_peers=2, own_views=True, takes_unlabelled=False)
def kdcl(method: Method, peers: Peers) -> list[Term]:
    """KDCL-MinLogit: `sum_i CE_i + KD(t -> i)`, t made of labels and all logits: `least_logits`."""
    return [_collaborative(method, least_logits)]


@recipe(temperature=2.0, min_peers=2, own_views=True, takes_unlabelled=False)
def kdcl_naive(method: Method, peers: Peers) -> list[Term]:
    """KDCL-Naive: t are each sample's logits of the best peer, `best_logits`."""
    return [_collaborative(method, best_logits)]


@recipe(temperature=2.0, min_peers=2, own_views=True, takes_unlabelled=False)
def kdcl_linear(method: Method, peers: Peers) -> list[Term]:
    """KDCL-Linear: t is a convex mixture of the logits, `mixed_logits`."""
    return [_collaborative(method, mixed_logits)]


@recipe(temperature=2.0, min_peers=2, own_views=True, held_out=True, takes_unlabelled=False)
def kdcl_general(method: Method, peers: Peers) -> list[Term]:
    """KDCL-General: peers are weighted after each epoch by their errors on held-out images.

    See `HeldOutWeights`. The held-out images are those of the validation split, which is then no
    longer untouched by training.
    """

    def imitate(forward: Forward) -> tf.Tensor:
        softened = [losses.soften(logits, method.temperature) for logits in forward.logits]
        target = tf.tensordot(forward.parts["held_out_weights"], tf.stack(softened), axes=1)
        return tf.add_n(
            [losses.distillation(target, z, method.temperature) for z in forward.logits]
        )

    return [Term("ensemble", imitate, part=HeldOutWeights(peers))]


def _collaborative(method: Method, ensemble: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Term:
    def imitate(forward: Forward) -> tf.Tensor:
        target = ensemble(forward.labels, tf.stack(forward.logits))
        targets = [target] * len(forward.logits)
        return losses.imitate_each(targets, forward.logits, method.temperature)

    return Term("ensemble", imitate)


class HeldOutWeights(HeldOutPart):
    """The weight of each peer in their ensemble, `[n]`, learnt on held-out images.

    Those that minimise the ensemble's squared error, `C^-1 1 / (1' C^-1 1)` with
    `C_ij = mean <p_i - y, p_j - y>`, a mean over weighted images. Negative ones are set to 0, that
    the ensemble may be a distribution (our definition). Equal until the first call of `learn`.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("held_out_weights")
        equal = keras.initializers.Constant(1 / len(peers))
        self.weight = self.add_weight(
            (len(peers),), equal, "float32", trainable=False, name="weights"
        )

    def call(self, forward: Forward) -> tf.Tensor:
        return tf.identity(self.weight.value)

    def learn(
        self, probabilities: np.ndarray, labels: np.ndarray, sample_weights: np.ndarray
    ) -> None:
        errors = (probabilities - labels).reshape(len(probabilities), -1).astype(np.float64)
        errors *= np.repeat(np.sqrt(sample_weights), labels.shape[1])
        covariance = errors @ errors.T
        # Peers that predict alike, or without error, leave it singular.
        covariance += (1e-6 * np.trace(covariance) + 1e-12) * np.eye(len(errors))
        weights = np.maximum(np.linalg.solve(covariance, np.ones(len(errors))), 0.0)
        self.weight.assign(weights / weights.sum())


def least_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`min_i (z_i - <y, z_i>)` in each class: no peer is surer of a wrong class.

    With a hard label `<y, z>` is the logit of its class, as in the paper; our definition for
    soft labels is this mean over them. Arguments and result as of `best_logits`.
    """
    own = tf.reduce_sum(labels * logits, axis=-1, keepdims=True)
    return tf.reduce_min(logits - own, axis=0)


def best_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """For each sample the logits of the peer with the least cross-entropy.

    With soft labels it is the cross-entropy to them (our definition).

    Args:
      labels: `[B, K]`.
      logits: `[n, B, K]`, of `n` peers.

    Returns:
      `[B, K]`.
    """
    best = tf.argmin(losses.sample_cross_entropy(labels, logits), axis=0)
    return tf.gather(tf.transpose(logits, [1, 0, 2]), best, axis=1, batch_dims=1)


def mixed_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`sum_i a_i z_i`, a the point of the simplex of least cross-entropy.

    One `a` for the batch, found from the peers' mean by 20 steps of exponentiated gradient
    descent, of which one that does not help is taken back and the next is half as long; the
    problem is convex. Arguments and result as of `best_logits`.
    """
    # In float32 rounding decides whether a step near the optimum helps, and with it the result
    # in the third digit: other processors and compilers got others.
    labels, logits = tf.cast(labels, tf.float64), tf.cast(logits, tf.float64)

    def loss_and_direction(powers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of the mixture by `softmax(powers)`; its slopes, the largest of them 1."""
        mixture = tf.tensordot(tf.nn.softmax(powers), logits, axes=1)
        error = tf.nn.softmax(mixture) - labels
        slopes = tf.reduce_mean(tf.reduce_sum(error * logits, axis=-1), axis=-1)  # (n,)
        slopes -= tf.reduce_mean(slopes)
        largest = tf.maximum(tf.reduce_max(tf.abs(slopes)), 1e-6)
        entropies = -tf.reduce_sum(labels * tf.nn.log_softmax(mixture), axis=-1)
        return tf.reduce_mean(entropies), slopes / largest

    def step(
        powers: tf.Tensor, loss: tf.Tensor, direction: tf.Tensor, rate: tf.Tensor
    ) -> list[tf.Tensor]:
        tried = powers - rate * direction
        taken = (tried, *loss_and_direction(tried), rate)
        left = (powers, loss, direction, rate / 2.0)
        return [tf.where(taken[1] < loss, a, b) for a, b in zip(taken, left, strict=True)]

    start = tf.zeros([logits.shape[0]], tf.float64)
    state = [start, *loss_and_direction(start), tf.constant(2.0, tf.float64)]
    # A loop, not 20 steps in a row, of which XLA would compile each.
    powers, *_ = tf.while_loop(lambda *_: True, step, state, maximum_iterations=_STEPS)
    return tf.cast(tf.tensordot(tf.nn.softmax(powers), logits, axes=1), tf.float32)
