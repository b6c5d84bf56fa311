"""Mutual contrastive learning (Yang et al. 2022)."""

from functools import partial

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Peers, Term, dense, recipe
from tf_cutnmix.distillation.peers import feature_sizes

Pair = tuple[int, int]


@recipe(min_peers=2, takes_unlabelled=False)
def mcl(method: Method, peers: Peers) -> list[Term]:
    """Mutual contrastive learning: contrast within and between peers, and its distillation.

    Yang et al. 2022: `CE + 0.1 VCL + SoftVCL + 0.1 ICL + SoftICL`, sums over peers and pairs.
    Samples attract each other as far as their labels agree, `<y_a, y_b>`, which is the paper's
    0 or 1 for hard labels and our definition for soft ones. Batches are drawn as for any other
    method, not by class.
    """
    indices = range(len(peers))
    own = [(i, i) for i in indices]
    between = [(i, j) for i in indices for j in indices if i != j]

    def contrast(pairs: list[Pair], forward: Forward) -> tf.Tensor:
        similar = forward.parts["embeddings"]
        positives = tf.matmul(forward.labels, forward.labels, transpose_b=True)
        return tf.add_n([contrastive(similar[pair], positives) for pair in pairs])

    def imitate(pairs: list[tuple[Pair, Pair]], forward: Forward) -> tf.Tensor:
        similar = forward.parts["embeddings"]
        targets, students = ([similar[pair[end]] for pair in pairs] for end in (0, 1))
        return losses.imitate_each(targets, students, method.temperature)

    part = Embeddings(peers)
    soft_own = [((j, j), (i, i)) for i, j in between]
    soft_between = [((j, i), (i, j)) for i, j in between]
    return [
        Term("contrast_own", partial(contrast, own), 0.1, part=part),
        Term("soft_own", partial(imitate, soft_own), part=part),
        Term("contrast_between", partial(contrast, between), 0.1, part=part),
        Term("soft_between", partial(imitate, soft_between), part=part),
    ]


class Embeddings(Part):
    """For each pair (i, j) of peers the similarities `[B, B]` of their embeddings.

    `S_ij = e_i e_j^T / 0.1`, e the unit vectors `Dense-ReLU-Dense(h)` of 128 numbers.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("embeddings")
        self.heads = [(dense(d, d), dense(d, 128)) for d in feature_sizes(peers)]

    def call(self, forward: Forward) -> dict[Pair, tf.Tensor]:
        heads = zip(self.heads, forward.features, strict=True)
        unit = [losses.unit(second(tf.nn.relu(first(h)))) for (first, second), h in heads]
        return {
            (i, j): tf.matmul(one, other, transpose_b=True) / 0.1
            for i, one in enumerate(unit)
            for j, other in enumerate(unit)
        }


def contrastive(similarities: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
    """`-mean_a sum_b w_ab log(exp s_ab / sum_{c != a} exp s_ac) / sum_b w_ab`, b other than a.

    Samples without a positive count 0 (Khosla et al. 2020, equation 2).

    Args:
      similarities: `[B, B]`, already divided by their temperature.
      positives: `[B, B]`, how far two samples are of one class, 0 or more; the diagonal is
        left out.
    """
    own = tf.eye(tf.shape(similarities)[0])
    log_predictions = tf.nn.log_softmax(similarities - 1e9 * own)
    weights = positives * (1.0 - own)
    pulled = tf.reduce_sum(weights * log_predictions, axis=-1)
    return -tf.reduce_mean(tf.math.divide_no_nan(pulled, tf.reduce_sum(weights, axis=-1)))
