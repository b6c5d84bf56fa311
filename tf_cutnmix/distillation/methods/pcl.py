"""Peer collaborative learning (Wu and Gong 2021)."""

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Ensemble, Forward, Method, Peers, Term, dense, recipe
from tf_cutnmix.distillation.peers import feature_sizes, num_classes


@recipe(min_peers=2, shares=True, own_views=True)
def pcl(method: Method, peers: Peers) -> list[Term]:
    """Peer collaborative learning: an ensemble and the others' averages teach each peer.

    Wu and Gong 2021: `CE(z_e) + sum_i CE_i + r KD(z_e -> i) + r mean_{j != i} KD(zbar_j -> i)`,
    `z_e` a classifier on all features, `zbar` the averaged peers, which normalise by the batch
    as in the public code. The ramp is the paper's, not that of this code, which divides by 1
    instead of 80.
    """

    def teach(forward: Forward) -> tf.Tensor:
        return losses.mutual(forward.logits, method.temperature, forward.teacher_logits)

    return [
        *FeatureClassifier(peers).terms(method.temperature),
        Term("teacher", teach, ramped=True, uses_averages=True),
    ]


class FeatureClassifier(Ensemble):
    """Logits `[B, K]` from all peers' features side by side."""

    def __init__(self, peers: Peers) -> None:
        super().__init__("feature_classifier")
        self.dense = dense(sum(feature_sizes(peers)), num_classes(peers))

    def call(self, forward: Forward) -> tf.Tensor:
        return tf.cast(self.dense(tf.concat(forward.features, axis=-1)), tf.float32)
