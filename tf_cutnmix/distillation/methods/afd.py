"""Online adversarial feature-map distillation (Chung et al. 2020)."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.distillation.method import Forward, Method, Part, Term, dense, recipe
from tf_cutnmix.distillation.terms import CROSS_ENTROPY, mutual
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.sharing import stages


@recipe(min_peers=2)
def afd(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
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

    def fool(forward: Forward) -> tf.Tensor:
        return tf.add_n([_far(1.0, own) for _, _, own in forward.parts[part.name]])

    def tell_apart(forward: Forward) -> tf.Tensor:
        told = forward.parts[part.name]
        return tf.add_n([_far(1.0, other) + _far(0.0, own) for other, own, _ in told])

    return [
        CROSS_ENTROPY,
        Term("mutual", lambda forward: mutual(forward, method.temperature)),
        Term("adversary", fool, weight=0.1, part=part),
        Term("discriminator", tell_apart, weight=0.1, part=part),
    ]


class Discriminators(Part):
    """Of each peer k, whether a map is that of the peer before it (AFD, Chung et al. 2020).

    `D_k(m) = sigmoid(mean over pixels of Dense(leaky ReLU(Dense(m))))`, 64 hidden channels, without
    the paper's BatchNormalization: its statistics would differ between the two losses.

    Its result holds for each peer three times `[B]` float32, from 0 to 1: of the map of the peer
    before it and of its own, neither with a gradient to the peers, and of its own again, without a
    gradient to the discriminator.
    """

    def __init__(self, peers: Sequence[keras.Model], hidden: int = 64) -> None:
        super().__init__("discriminators")
        self.stages = [stages(peer)[-1] for peer in peers]
        pairs = zip(peers, self.stages, strict=True)
        shapes = [tuple(peer.output[stage].shape[1:]) for peer, stage in pairs]
        if len({shape[:2] for shape in shapes}) > 1:
            raise InputError(
                f"--method=afd compares the peers' last maps, of unlike sizes {shapes}"
            )
        channels = [shape[-1] for shape in shapes]
        self.transfers = [
            None if own == other else dense(own, other)
            for own, other in zip(channels, channels[-1:] + channels[:-1], strict=True)
        ]
        self.layers = [
            (dense(other, hidden), dense(hidden, 1)) for other in channels[-1:] + channels[:-1]
        ]

    def call(self, forward: Forward) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        outputs = zip(forward.outputs, self.stages, strict=True)
        maps = [tf.cast(output[stage], tf.float32) for output, stage in outputs]
        found = []
        for k, (layers, transfer) in enumerate(zip(self.layers, self.transfers, strict=True)):
            own = tf.cast(transfer(maps[k]), tf.float32) if transfer else maps[k]
            weights = [tf.cast(w.value, tf.float32) for layer in layers for w in layer.weights]
            found.append(
                (
                    _discriminate(tf.stop_gradient(maps[k - 1]), weights),
                    _discriminate(tf.stop_gradient(own), weights),
                    _discriminate(own, [tf.stop_gradient(w) for w in weights]),
                )
            )
        return found


def _discriminate(maps: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
    first, first_bias, second, second_bias = weights
    hidden = tf.nn.leaky_relu(tf.tensordot(maps, first, 1) + first_bias)
    return tf.sigmoid(tf.reduce_mean(tf.tensordot(hidden, second, 1), axis=[1, 2, 3]) + second_bias)


def _far(wanted: float, answers: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(wanted - answers))
