"""Mutual contrastive learning (Yang et al. 2022)."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Term, dense, recipe
from tf_cutnmix.distillation.peers import feature_sizes
from tf_cutnmix.distillation.terms import CROSS_ENTROPY


@recipe(min_peers=2)
def mcl(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Mutual contrastive learning: contrast within and between peers, and its distillation.

    Yang et al. 2022: `CE + 0.1 VCL + SoftVCL + 0.1 ICL + SoftICL`, sums over peers and pairs.
    Samples attract each other as far as their labels agree, `<y_a, y_b>`, which is the paper's
    0 or 1 for hard labels and our definition for soft ones. Batches are drawn as for any other
    method, not by class.
    """

    indices = range(len(peers))
    own = [(i, i) for i in indices]
    between = [(i, j) for i in indices for j in indices if i != j]

    def contrast(pairs: Sequence[tuple[int, int]]) -> Callable[[Forward], tf.Tensor]:
        def loss(forward: Forward) -> tf.Tensor:
            similar = forward.parts["embeddings"]
            positives = tf.matmul(forward.labels, forward.labels, transpose_b=True)
            return tf.add_n([contrastive(similar[pair], positives) for pair in pairs])

        return loss

    def imitate(pairs: Sequence[tuple]) -> Callable[[Forward], tf.Tensor]:
        def loss(forward: Forward) -> tf.Tensor:
            similar = forward.parts["embeddings"]
            return tf.add_n(
                [losses.imitation(similar[t], similar[s], method.temperature) for t, s in pairs]
            )

        return loss

    embeddings = Embeddings(peers)
    return [
        CROSS_ENTROPY,
        Term("contrast_own", contrast(own), 0.1, part=embeddings),
        Term("soft_own", imitate([((j, j), (i, i)) for i, j in between]), part=embeddings),
        Term("contrast_between", contrast(between), 0.1, part=embeddings),
        Term("soft_between", imitate([((j, i), (i, j)) for i, j in between]), part=embeddings),
    ]


class Embeddings(Part):
    """For each pair (i, j) of peers the similarities `[B, B]` of their embeddings.

    MCL, Yang et al. 2022:
    `S_ij = e_i e_j^T / tau`, e the unit vectors `Dense-ReLU-Dense(h)` of 128 numbers, tau = 0.1.
    """

    def __init__(self, peers: Sequence[keras.Model], size: int = 128, tau: float = 0.1) -> None:
        super().__init__("embeddings")
        self.tau = tau
        self.heads = [(dense(d, d), dense(d, size)) for d in feature_sizes(peers)]

    def call(self, forward: Forward) -> dict[tuple[int, int], tf.Tensor]:
        unit = [
            losses.unit(second(tf.nn.relu(first(features))))
            for (first, second), features in zip(self.heads, forward.features, strict=True)
        ]
        peers = range(len(unit))
        return {
            (i, j): tf.matmul(unit[i], unit[j], transpose_b=True) / self.tau
            for i in peers
            for j in peers
        }


def contrastive(similarities: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
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
