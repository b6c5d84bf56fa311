"""On-the-fly native ensemble (Lan et al. 2018)."""

import keras
import tensorflow as tf

from tf_cutnmix.distillation.method import Ensemble, Forward, Method, Peers, Term, dense, recipe
from tf_cutnmix.networks.sharing import shared_stage


@recipe(min_peers=2, shares=True, leader=0)
def one(method: Method, peers: Peers) -> list[Term]:
    """On-the-fly native ensemble: `sum_i CE_i + CE(z_e) + r sum_i KD(z_e -> i)`.

    Lan et al. 2018. `z_e` weighs the peers by a gate on the map that they share.
    """
    return Gate(peers).terms(method.temperature)


class Gate(Ensemble):
    """Logits `[B, K]` of the peers weighted by a gate on what they share.

    `softmax(ReLU(BN(W GAP(shared map))))` weighs the peers of each sample. Where peers see
    views of their own, the gate sees the mean of the shared maps.
    """

    def __init__(self, peers: Peers) -> None:
        super().__init__("gate")
        self.stage = shared_stage(peers) or ""  # The recipe has asked for one.
        self.dense = dense(peers[0].output[self.stage].shape[-1], len(peers))
        self.normalise = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        self.normalise.build((None, len(peers)))

    def call(self, forward: Forward) -> tf.Tensor:
        maps = [tf.reduce_mean(o[self.stage], axis=[1, 2]) for o in forward.outputs]
        scores = self.normalise(self.dense(tf.add_n(maps) / len(maps)), training=True)
        weights = tf.nn.softmax(tf.cast(tf.nn.relu(scores), tf.float32))  # (B, n)
        return tf.einsum("bn,nbk->bk", weights, tf.stack(forward.logits))
