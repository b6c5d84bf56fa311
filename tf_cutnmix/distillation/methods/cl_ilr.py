"""Collaborative learning (Song and Chai 2018)."""

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Peers, Term, recipe


@recipe(min_peers=2, shares=True, mean_gradient=True)
def cl_ilr(method: Method, peers: Peers) -> list[Term]:
    """Collaborative learning on a shared trunk: `sum_i CE_i + r KD(mean_{j != i} z_j -> i)`.

    Song and Chai 2018. The trunk gets the mean of the peers' gradients (`mean_gradient=True`
    of `share_stages`). One split, weights 1 and a ramp, as in OKDDip's comparison; the target is
    stopped, as in MCL-OKD's.
    """

    def consensus(forward: Forward) -> tf.Tensor:
        total = tf.add_n(forward.logits)
        others = [(total - logits) / (len(peers) - 1) for logits in forward.logits]
        return losses.imitate_each(others, forward.logits, method.temperature)

    return [Term("consensus", consensus, ramped=True)]
