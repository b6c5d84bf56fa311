"""Cut^nMix's framework: a self-ensemble teacher and feature-level mutual learning."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.forward import Forward, Part, dense
from tf_cutnmix.distillation.method import Method, Term, recipe
from tf_cutnmix.distillation.peers import feature_sizes
from tf_cutnmix.distillation.terms import CROSS_ENTROPY, mutual


@recipe()
def cutnmix(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Cross-entropy, the self-ensemble teacher and feature-level mutual learning (ours).

    Our reading of Shen et al. 2022 (arXiv 2206.12370). All distillation terms are ramped. The
    term `mutual`, the peers' own logits as in `dml`, is off unless it is given a weight.
    """
    return [
        CROSS_ENTROPY,
        Term(
            "teacher",
            lambda forward: teacher_distillation(forward, method.temperature),
            ramped=True,
            uses_averages=True,
        ),
        Term("feature", mutual_features, ramped=True, part=FeatureAdapters(peers)),
        Term(
            "mutual",
            lambda forward: mutual(forward, method.temperature),
            weight=0.0,
            ramped=True,
        ),
    ]


def teacher_distillation(forward: Forward, temperature: float) -> tf.Tensor:
    """`sum_i T^2 KL(q || softmax(z_i / T))`, q the mean softened prediction of the averaged peers.

    Each averaged peer saw its peer's view, so q averages over views as well as over weights.
    """
    softened = [losses.soften(logits, temperature) for logits in forward.teacher_logits]
    target = tf.add_n(softened) / len(softened)
    return tf.add_n([losses.distillation(target, z, temperature) for z in forward.logits])


def mutual_features(forward: Forward) -> tf.Tensor:
    """`sum_k mean_{j != k} |unit(A_kj f_k) - unit(f_j)|^2`; 0 for a single peer.

    The targets are the peers' own features, without gradient: the adapters `A_kj` cannot
    bring the distance down by mapping everything to one point.
    """
    adapted = forward.parts["feature_adapters"]
    if not adapted:
        return tf.constant(0.0)
    distances = [feature_distance(f, forward.features[j]) for (_, j), f in adapted.items()]
    return tf.add_n(distances) / (len(forward.features) - 1)


class FeatureAdapters(Part):
    """Linear maps from each peer's feature size to every other's.

    Its result holds for each pair (k, j), k != j, peer k's features in peer j's size, `[B, D_j]`.
    """

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("feature_adapters")
        sizes = feature_sizes(peers)
        count = len(peers)
        self.pairs = [(k, j) for k in range(count) for j in range(count) if j != k]
        self.adapters = [dense(sizes[k], sizes[j], use_bias=False) for k, j in self.pairs]

    def call(self, forward: Forward) -> dict[tuple[int, int], tf.Tensor]:
        return {
            (k, j): adapter(forward.features[k])
            for (k, j), adapter in zip(self.pairs, self.adapters, strict=True)
        }


def feature_distance(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Squared distance of the unit vectors, mean over the batch; from 0 to 4.

    Args:
      features: `[B, D]`.
      target: `[B, D]`; gets no gradient.
    """
    difference = losses.unit(features) - tf.stop_gradient(losses.unit(target))
    return tf.reduce_mean(tf.reduce_sum(tf.square(difference), axis=-1))
