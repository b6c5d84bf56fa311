"""Views of each peer's own keep their label."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import CropAndFlip, CutMix, CutNMix, MixUp, OnlineDistiller
from tf_cutnmix.mixing.layers import FMix


def distiller_of(count, layer):
    settings = {"num_peers": count} if layer is CutNMix else {}
    mix = layer(alpha=1.0, num_classes=CLASSES, seed=4, **settings) if layer else None
    return OnlineDistiller(
        [tiny_peer() for _ in range(count)],
        mix,
        "independent",
        augment=CropAndFlip(crop=0, flip=False, seed=0),
        own_views=True,
    )


@pytest.mark.parametrize("layer", [None, CutNMix, CutMix, MixUp, FMix])
@pytest.mark.parametrize("count", [2, 3])
def test_every_view_of_each_peers_own_holds_what_its_label_says(count, layer, eagerly):
    # Images of one value each, which nothing but the class tells: the mean of a view is the
    # mean of the values by its label.
    values = np.array([3, 17, 40, 92, 141, 180, 203, 214, 237, 255], "float32")
    labels = np.array([7, 2, 9, 0, 4])
    images = values[labels][:, None, None, None] * np.ones([1, 8, 8, 3], "float32")
    views, mixed, *_ = distiller_of(count, layer).make_views(
        tf.constant(images), tf.constant(labels), tf.constant(1, tf.int64)
    )
    assert len(views) == count
    assert layer is None or not np.allclose(mixed, np.eye(CLASSES)[labels])
    for view in views:
        expected = np.asarray(mixed) @ values
        np.testing.assert_allclose(np.mean(view, axis=(1, 2, 3)), expected, rtol=1e-5)
