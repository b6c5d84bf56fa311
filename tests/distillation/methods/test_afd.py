"""The two losses of adversarial distillation, kept apart."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import tiny_peer
from tf_cutnmix import Method, build_network
from tf_cutnmix.distillation.method import Forward
from tf_cutnmix.errors import InputError


@pytest.mark.parametrize(
    ("name", "learns", "stands_still"),
    [("adversary", "peers", "discriminators"), ("discriminator", "discriminators", "peers")],
)
@pytest.mark.parametrize("sizes", [(5, 5), (5, 3)], ids=str)
def test_each_loss_teaches_one_side_alone(name, learns, stands_still, sizes):
    peers = [tiny_peer(size) for size in sizes]
    terms = {term.name: term for term in Method("afd").terms(peers)}
    part = terms[name].part
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("float32")
    with tf.GradientTape() as tape:
        outputs = [peer(images, training=True) for peer in peers]
        forward = Forward(tf.constant(0), tf.constant(0.0), [], outputs)
        loss = terms[name].loss(forward._replace(parts={part.name: part(forward)}))
    sides = {
        "peers": [v for peer in peers for v in peer.trainable_variables],
        "discriminators": [w for pair in part.layers for layer in pair for w in layer.weights],
    }
    gradients = tape.gradient(loss, {side: [v.value for v in vs] for side, vs in sides.items()})
    assert all(g is None for g in gradients[stands_still])
    assert sum(float(tf.norm(g)) > 0 for g in gradients[learns] if g is not None) > 3


def test_maps_of_unlike_rows_and_columns_are_refused():
    peers = [build_network(name, (32, 32, 3), 10) for name in ("resnet8", "vgg16")]
    with pytest.raises(InputError, match="last maps, of unlike sizes"):
        Method("afd").terms(peers)
    keras.utils.clear_session()
