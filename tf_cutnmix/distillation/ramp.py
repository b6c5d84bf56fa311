"""How much a ramped term counts: by the clock, or by how well the peers fit their labels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.mixing.batch import has_label


class Fit(NamedTuple):
    """A weight `exp(-e (1 - p)^2)` of the fit p, from 0 for a uniform prediction to 1.

    Attributes:
      exponent: e.
      nats: of cross-entropy above the labels' entropy H that make p 0; None for `ln K`.
      of_the_labels: whether H is taken off these, as a uniform prediction has `ln K - H`.
    """

    exponent: float = 5.0
    nats: float | None = None
    of_the_labels: bool = False


# Candidates of studies/few_pictures: one of them is to stay.
FITS = {
    "fit": Fit(),
    "fit_steep": Fit(exponent=8.0),
    "fit_nats": Fit(nats=3.0),
    "fit_first": Fit(of_the_labels=True),
}


def by_time(step: tf.Tensor, ramp_steps: int) -> tf.Tensor:
    """Sigmoid ramp-up `exp(-5 (1 - min(t, R) / R)^2)` (Laine and Aila 2017); 1 if R is 0."""
    if ramp_steps == 0:
        return tf.constant(1.0)
    progress = tf.minimum(tf.cast(step, tf.float32) / ramp_steps, 1.0)
    return tf.exp(-5.0 * tf.square(1.0 - progress))


def by_fit(fit: Fit, labels: tf.Tensor, logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """The weight of the peers' fit, a scalar without gradient (ours).

    `p = clip(1 - (CE - H) / s, 0, 1)`: the cross-entropy of the peers' predictions and the entropy
    of the labels are means over the labelled rows, and CE over the peers too. Without a labelled
    row p is 0.

    Args:
      fit: e, and the nats s.
      labels: `[B, K]` as mixed, before weights; a row that is all zero has no label.
      logits: of each peer, `[B, K]` float32.
    """
    count = tf.reduce_sum(tf.cast(has_label(labels), tf.float32))
    of_peers = [losses.sample_cross_entropy(labels, z) for z in logits]
    entropies = -tf.reduce_sum(tf.math.xlogy(labels, labels), axis=-1)
    # A row without a label has neither cross-entropy nor entropy.
    cross_entropy = tf.math.divide_no_nan(tf.add_n(of_peers) / len(logits), count)
    entropy = tf.math.divide_no_nan(tf.reduce_sum(entropies), count)
    scale = math.log(labels.shape[-1]) if fit.nats is None else fit.nats
    if fit.of_the_labels:
        scale = tf.maximum(scale - entropy, 1e-6)
    known = 1.0 - (tf.reduce_sum(cross_entropy) - entropy) / scale
    known = tf.where(count > 0, tf.clip_by_value(known, 0.0, 1.0), 0.0)
    return tf.stop_gradient(tf.exp(-fit.exponent * tf.square(1.0 - known)))
