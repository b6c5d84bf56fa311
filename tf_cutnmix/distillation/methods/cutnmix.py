"""Cut^nMix's framework: a self-ensemble teacher and feature-level mutual learning."""

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Peers, Term, dense, recipe
from tf_cutnmix.distillation.peers import feature_sizes
from tf_cutnmix.distillation.ramp import by_time
from tf_cutnmix.errors import InputError

OPTIONS = {
    "ensemble_members": ("all", "others"),
    "ensemble_from": ("averages", "peers"),
    "ensemble_view": ("mixed", "clean"),
}


@recipe(options=OPTIONS, fits=True, ramp=0.5)
def cutnmix(method: Method, peers: Peers) -> list[Term]:
    """Cross-entropy, the self-ensemble teacher and feature-level mutual learning (ours).

    Our reading of Shen et al. 2022 (arXiv 2206.12370). The teacher's term is
    `sum_i T^2 KL(q_i || softmax(z_i / T))`, q_i the mean softened prediction of peer i's teachers,
    without gradient; each saw its peer's view, so q_i averages over views as well as over weights.
    All distillation terms are ramped. The term `mutual`, the peers' own logits as in `dml`, is off
    unless it is given a weight. The ramp and the weight of the features are what won in
    docs/when_it_pays.md.

    Who teaches is an option: the ensemble of all networks or, for each peer, of the others
    (`ensemble_members`), where there are any; of the averaged networks or of the peers as they are
    (`ensemble_from`); on the mixed views, or on the unmixed ones with their predictions mixed by
    the share pasted (`ensemble_view`; Yang et al. 2022, MixSKD, of self-distillation).

    With unlabelled images the averaged networks see all images unmixed, and there is a term more,
    `unlabelled`: `sum_i CE(t, z_i)` over the samples without a label, t the mean of all averaged
    networks' predictions, sharpened to `p^2` as in MixMatch (Berthelot et al. 2019) and mixed as
    the images are. It has a ramp by time of its own.
    """
    all_teach = method.option("ensemble_members") == "all"
    from_averages = method.option("ensemble_from") == "averages"
    view = method.option("ensemble_view")
    if view == "clean" and not from_averages:
        raise InputError(
            "--ensemble_view=clean: only averaged networks see unmixed images, leave out "
            "--ensemble_from=peers"
        )
    if method.unlabelled and method.options.get("ensemble_view") == "mixed":
        raise InputError(
            "--ensemble_view=mixed: with --unlabelled averaged networks see clean images, leave it "
            "out"
        )
    unmixed = from_averages and (view == "clean" or method.unlabelled)

    def teach(forward: Forward) -> tf.Tensor:
        logits = forward.teacher_logits if from_averages else forward.logits
        softened = [losses.soften(z, method.temperature) for z in logits]
        if unmixed:
            softened = [forward.mix(predictions) for predictions in softened]
        distances = []
        for i, z in enumerate(forward.logits):
            teachers = [q for j, q in enumerate(softened) if all_teach or j != i] or softened
            target = tf.add_n(teachers) / len(teachers)
            distances.append(losses.distillation(target, z, method.temperature))
        return tf.add_n(distances)

    def teach_unlabelled(forward: Forward) -> tf.Tensor:
        predictions = [losses.soften(z, 1.0) for z in forward.teacher_logits]
        target = forward.mix(losses.sharpen(tf.add_n(predictions) / len(predictions)))
        counts = ~forward.labelled
        target *= tf.cast(counts, tf.float32)[:, None]
        entropies = [losses.cross_entropy(target, z, counts) for z in forward.logits]
        return by_time(forward.step, method.unlabelled_ramp_steps) * tf.add_n(entropies)

    part = FeatureAdapters(peers)
    unlabelled = Term("unlabelled", teach_unlabelled, uses_averages=True, unmixed=True)
    return [
        Term("teacher", teach, ramped=True, uses_averages=from_averages, unmixed=unmixed),
        Term("feature", lambda forward: forward.parts[part.name], 0.1, ramped=True, part=part),
        Term("mutual", lambda f: losses.mutual(f.logits, method.temperature), 0.0, ramped=True),
        *([unlabelled] if method.unlabelled else []),
    ]


class FeatureAdapters(Part):
    """`sum_k mean_{j != k} |unit(A_kj f_k) - unit(f_j)|^2`; 0 for a single peer.

    `A_kj` are linear maps from each peer's feature size to every other's. The targets are the
    peers' own features, without gradient: the adapters cannot bring the distance down by mapping
    everything to one point.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("feature_adapters")
        sizes = feature_sizes(peers)
        count = len(peers)
        self.pairs = [(k, j) for k in range(count) for j in range(count) if j != k]
        self.adapters = [dense(sizes[k], sizes[j], use_bias=False) for k, j in self.pairs]

    def call(self, forward: Forward) -> tf.Tensor:
        if not self.pairs:
            return tf.constant(0.0)
        features = forward.features
        distances = [
            feature_distance(adapter(features[k]), features[j])
            for (k, j), adapter in zip(self.pairs, self.adapters, strict=True)
        ]
        return tf.add_n(distances) / (len(features) - 1)


def feature_distance(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Squared distance of the unit vectors, mean over the batch; from 0 to 4.

    Args:
      features: `[B, D]`.
      target: `[B, D]`; gets no gradient.
    """
    difference = losses.unit(features) - tf.stop_gradient(losses.unit(target))
    return tf.reduce_mean(tf.reduce_sum(tf.square(difference), axis=-1))
