"""The fusion of the peers' last maps."""

import keras
import tensorflow as tf

from tests.distillation.methods.forwards import BATCH, forward_of, images_of, outputs_of
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix.distillation.methods.ffl import Fusion


def test_the_fusion_takes_the_last_map_of_each_peer_whatever_its_name() -> None:
    images = keras.Input((8, 8, 3))
    ends = {"stage1": keras.layers.Conv2D(5, 3, strides=4, padding="same")(images)}
    ends["features"] = keras.layers.GlobalAveragePooling2D()(ends["stage1"])
    ends["logits"] = keras.layers.Dense(CLASSES)(ends["features"])
    peers = [tiny_peer(5), keras.Model(images, ends)]
    views = [tf.constant(images_of(), tf.float32)] * 2
    found = Fusion(peers)(forward_of(views, outputs_of(peers, views)))
    assert found.shape == (BATCH, CLASSES)
