"""The gate on what peers share."""

import keras
import numpy as np
import tensorflow as tf

from tests.distillation.methods.forwards import forward_of, images_of, outputs_of
from tests.tiny_peers import tiny_peer
from tf_cutnmix.distillation.methods.one import Gate
from tf_cutnmix.networks.sharing import share_stages


def shared_pair(size: int = 6) -> list[keras.Model]:
    return share_stages([tiny_peer(size), tiny_peer(size)], "stage1")


def test_the_gate_of_own_views_sees_the_mean_of_the_shared_maps() -> None:
    peers = shared_pair()
    part = Gate(peers)
    views = [tf.constant(images_of(seed=seed), tf.float32) for seed in (1, 2)]
    outputs = outputs_of(peers, views)
    mean = (outputs[0]["stage1"] + outputs[1]["stage1"]) / 2
    same = [{**output, "stage1": mean} for output in outputs]
    found, expected = part(forward_of(views, outputs)), part(forward_of(views, same))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    own = part(forward_of(views, [{**o, "stage1": outputs[0]["stage1"]} for o in outputs]))
    assert not np.allclose(found, own, atol=1e-4)


def test_the_gate_weighs_the_peers_of_each_sample_by_a_distribution() -> None:
    peers = shared_pair()
    views = [tf.constant(images_of(), tf.float32)] * 2
    outputs = outputs_of(peers, views)
    alike = [{**output, "logits": outputs[0]["logits"]} for output in outputs]
    found = Gate(peers)(forward_of(views, alike))
    np.testing.assert_allclose(found, outputs[0]["logits"], rtol=1e-5, atol=1e-6)
