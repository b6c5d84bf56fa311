"""Feature fusion learning (Kim et al. 2019)."""

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Ensemble, Forward, Method, Peers, Term, recipe
from tf_cutnmix.distillation.peers import check_alike, last_maps, num_classes


@recipe(min_peers=2, shares=True)
def ffl(method: Method, peers: Peers) -> list[Term]:
    """Feature fusion learning: a fused classifier and the peers teach each other.

    Kim et al. 2019: `sum_i CE_i + CE(z_f) + r sum_i KD(z_f -> i) + r KD(mean_i z_i -> f)`. The
    fusion is trained with the peers' optimizer and weight decay, not one of its own. The peers'
    last maps must be of one size.
    """
    fusion = Fusion(peers)

    def ensemble(forward: Forward) -> tf.Tensor:
        mean = tf.add_n(forward.logits) / len(peers)
        return losses.imitation(mean, forward.parts["fusion"], method.temperature)

    return [
        *fusion.terms(method.temperature),
        Term("ensemble", ensemble, ramped=True, part=fusion),
    ]


class Fusion(Ensemble):
    """Logits `[B, K]` from the peers' last maps, fused.

    Concatenation, a 3x3 convolution of each channel, BN-ReLU, a 1x1 convolution down to one
    peer's channels, BN-ReLU, global pooling and a classifier.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("fusion")
        self.stages, shapes = last_maps("ffl", peers)
        check_alike("ffl", "last maps", shapes)
        channels = shapes[0][-1]
        self.fuse = keras.Sequential(
            [
                keras.layers.Input((None, None, channels * len(peers))),
                keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                keras.layers.ReLU(),
                keras.layers.Conv2D(channels, 1, use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(num_classes(peers)),
            ]
        )

    def call(self, forward: Forward) -> tf.Tensor:
        last = [o[stage] for o, stage in zip(forward.outputs, self.stages, strict=True)]
        return tf.cast(self.fuse(tf.concat(last, axis=-1), training=True), tf.float32)
