"""Cut^nMix's framework: a self-ensemble teacher and feature-level mutual learning."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Term, dense, recipe
from tf_cutnmix.distillation.peers import feature_sizes
from tf_cutnmix.distillation.terms import CROSS_ENTROPY, mutual
from tf_cutnmix.errors import InputError

OPTIONS = {
    "ensemble_members": ("all", "others"),
    "ensemble_from": ("averages", "peers"),
    "ensemble_view": ("mixed", "clean"),
}


@recipe(options=OPTIONS, fits=True, ramp=0.5)
def cutnmix(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Cross-entropy, the self-ensemble teacher and feature-level mutual learning (ours).

    Our reading of Shen et al. 2022 (arXiv 2206.12370). All distillation terms are ramped. The
    term `mutual`, the peers' own logits as in `dml`, is off unless it is given a weight. The
    ramp and the weight of the features are what won in docs/when_it_pays.md.

    Who teaches is an option: the ensemble of all networks or, for each peer, of the others
    (`ensemble_members`); of the averaged networks or of the peers as they are, without gradient
    (`ensemble_from`); on the mixed views, or on the unmixed ones with their answers mixed by the
    share pasted (`ensemble_view`; Yang et al. 2022, MixSKD, of self-distillation).
    """
    from_averages = method.option("ensemble_from") == "averages"
    unmixed = method.option("ensemble_view") == "clean"
    if unmixed and not from_averages:
        raise InputError(
            "--ensemble_view=clean: only averaged networks see unmixed images, leave out "
            "--ensemble_from=peers"
        )
    return [
        CROSS_ENTROPY,
        Term(
            "teacher",
            lambda forward: ensemble_distillation(
                forward,
                method.temperature,
                others=method.option("ensemble_members") == "others",
                from_averages=from_averages,
                unmixed=unmixed,
            ),
            ramped=True,
            uses_averages=from_averages,
            unmixed=unmixed,
        ),
        Term(
            "feature",
            mutual_features,
            weight=0.1,
            ramped=True,
            part=FeatureAdapters(peers),
        ),
        Term(
            "mutual",
            lambda forward: mutual(forward, method.temperature),
            weight=0.0,
            ramped=True,
        ),
    ]


def ensemble_distillation(
    forward: Forward,
    temperature: float,
    *,
    others: bool = False,
    from_averages: bool = True,
    unmixed: bool = False,
) -> tf.Tensor:
    """`sum_i T^2 KL(q_i || softmax(z_i / T))`, q_i the mean softened answer of peer i's teachers.

    Each teacher saw its peer's view, so q_i averages over views as well as over weights. It gets
    no gradient.

    Args:
      forward: of the step.
      temperature: T, above 0.
      others: whether q_i leaves out peer i's own network, where there are others.
      from_averages: whether the teachers are the averaged peers, not the peers.
      unmixed: whether they saw the images unmixed; their predictions are mixed then.
    """
    teachers = forward.teacher_logits if from_averages else forward.logits
    softened = [losses.soften(logits, temperature) for logits in teachers]
    if unmixed:
        softened = [forward.mix(prediction) for prediction in softened]
    distances = []
    for i, logits in enumerate(forward.logits):
        left_out = i if others and len(softened) > 1 else None
        members = [prediction for j, prediction in enumerate(softened) if j != left_out]
        target = tf.add_n(members) / len(members)
        distances.append(losses.distillation(target, logits, temperature))
    return tf.add_n(distances)


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
