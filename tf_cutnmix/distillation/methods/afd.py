"""Online adversarial feature-map distillation (Chung et al. 2020)."""

from collections.abc import Sequence

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Peers, Term, dense, recipe
from tf_cutnmix.distillation.peers import check_alike, last_maps


@recipe(min_peers=2)
def afd(method: Method, peers: Peers) -> list[Term]:
    """Adversarial feature-map distillation: peers make maps that pass for one another's.

    Chung et al. 2020: `sum_i CE_i + mean_{j != i} KD(z_j -> i) + (1 - D_k(t_k(m_k)))^2` for the
    peers and `(1 - D_k(m_{k-1}))^2 + D_k(t_k(m_k))^2` for the discriminators, `m_k` the last map of
    peer k, which learns from the peer before it, the first from the last. The paper takes a step
    on each loss in turn, the second with a slower optimizer of its own. Ours are terms of one loss
    and one optimizer, kept apart by stopped gradients: a discriminator gets none from the peers'
    term, the peers none from the discriminators'; both have weight 0.1. The maps must have as many
    rows and columns; where they differ in channels, `t_k` brings them to one size.
    """
    part = Discriminators(peers)
    return [
        Term("mutual", lambda forward: losses.mutual(forward.logits, method.temperature)),
        Term("adversary", lambda forward: forward.parts["discriminators"][0], 0.1, part=part),
        Term("discriminator", lambda forward: forward.parts["discriminators"][1], 0.1, part=part),
    ]


class Discriminators(Part):
    """Of each peer k, how sure it is that a map is that of the peer before it.

    `D_k(m) = sigmoid(mean over pixels of Dense(leaky ReLU(Dense(m))))`, 64 hidden channels, without
    the paper's BatchNormalization: its statistics would differ between the two losses.

    It computes two losses, float32: that of the peers, without a gradient to the discriminators,
    and that of the discriminators, without one to the peers.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("discriminators")
        self.stages, shapes = last_maps("afd", peers)
        check_alike("afd", "last maps", [shape[:2] for shape in shapes])
        channels = [shape[-1] for shape in shapes]
        before = channels[-1:] + channels[:-1]
        self.transfers = [
            None if own == other else dense(own, other)
            for own, other in zip(channels, before, strict=True)
        ]
        self.layers = [(dense(other, 64), dense(64, 1)) for other in before]

    def call(self, forward: Forward) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = zip(forward.outputs, self.stages, strict=True)
        maps = [tf.cast(output[stage], tf.float32) for output, stage in outputs]
        of_peers, of_discriminators = [], []
        for k, (layers, transfer) in enumerate(zip(self.layers, self.transfers, strict=True)):
            own = tf.cast(transfer(maps[k]), tf.float32) if transfer else maps[k]
            weights = [tf.cast(w.value, tf.float32) for layer in layers for w in layer.weights]
            fooled = _discriminate(own, [tf.stop_gradient(w) for w in weights])
            of_other = _discriminate(tf.stop_gradient(maps[k - 1]), weights)
            of_own = _discriminate(tf.stop_gradient(own), weights)
            of_peers.append(_squared_error(1.0, fooled))
            of_discriminators.append(_squared_error(1.0, of_other) + _squared_error(0.0, of_own))
        return tf.add_n(of_peers), tf.add_n(of_discriminators)


def _discriminate(maps: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
    first, first_bias, second, second_bias = weights
    hidden = tf.nn.leaky_relu(tf.tensordot(maps, first, 1) + first_bias)
    return tf.sigmoid(tf.reduce_mean(tf.tensordot(hidden, second, 1), axis=[1, 2, 3]) + second_bias)


def _squared_error(wanted: float, answers: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(wanted - answers))
