"""Online knowledge distillation with diverse peers (Chen et al. 2020)."""

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Peers, Term, dense, recipe
from tf_cutnmix.distillation.peers import check_alike, feature_sizes


@recipe(min_peers=3, leader=-1)
def okddip(method: Method, peers: Peers) -> list[Term]:
    """Two-level distillation to a leader, the last peer, by way of diverse auxiliary peers.

    Chen et al. 2020: `sum_i CE_i + r sum_{a < n} T^2 KL(t_a || z_a) + r KD(mean_a z_a -> n)`,
    `t_a` from the attention of the auxiliary peers on each other. As in the authors' code, the
    targets get gradients: the attention's projections learn from nothing else.
    """

    def attended(forward: Forward) -> tf.Tensor:
        targets = tf.unstack(forward.parts["attention"])
        auxiliary = forward.logits[:-1]
        return losses.imitate_each(targets, auxiliary, method.temperature, stop_target=False)

    def leader(forward: Forward) -> tf.Tensor:
        *auxiliary, last = forward.logits
        mean = tf.add_n(auxiliary) / len(auxiliary)
        return losses.imitation(mean, last, method.temperature, stop_target=False)

    return [
        Term("attention", attended, ramped=True, part=Attention(peers)),
        Term("leader", leader, ramped=True),
    ]


class Attention(Part):
    """Each auxiliary peer's own target, `[n - 1, B, K]` logits.

    `t_a = sum_b softmax_b(<W_q h_a, W_k h_b>) z_b` over the auxiliary peers, all but the last,
    a itself among them; the projections go to an eighth of the features' size.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("attention")
        sizes = feature_sizes(peers)
        check_alike("okddip", "features", sizes)
        self.query, self.key = (
            dense(sizes[0], max(1, sizes[0] // 8), use_bias=False) for _ in range(2)
        )

    def call(self, forward: Forward) -> tf.Tensor:
        features = tf.stack(forward.features[:-1])
        query, key = (tf.cast(f(features), tf.float32) for f in (self.query, self.key))
        weights = tf.nn.softmax(tf.einsum("abd,cbd->bac", query, key))
        return tf.einsum("bac,cbk->abk", weights, tf.stack(forward.logits[:-1]))
