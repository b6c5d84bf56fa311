"""The two losses of adversarial distillation, kept apart."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import tiny_peer
from tf_cutnmix.distillation.method import Forward
from tf_cutnmix.distillation.methods.afd import Discriminators


@pytest.mark.parametrize(("index", "learns"), [(0, "peers"), (1, "discriminators")])
def test_each_loss_teaches_one_side_alone(index, learns):
    peers = [tiny_peer(size) for size in (5, 3)]
    part = Discriminators(peers)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("float32")
    with tf.GradientTape() as tape:
        outputs = [peer(images, training=True) for peer in peers]
        loss = part(Forward(tf.constant(0), tf.constant(0.0), [], outputs))[index]
    sides = {
        "peers": [v.value for peer in peers for v in peer.trainable_variables],
        "discriminators": [
            w.value for pair in part.layers for layer in pair for w in layer.weights
        ],
    }
    gradients = tape.gradient(loss, sides)
    assert sum(float(tf.norm(g)) > 0 for g in gradients.pop(learns) if g is not None) > 3
    (stand_still,) = gradients.values()
    assert all(g is None for g in stand_still)
