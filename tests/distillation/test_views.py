"""What each peer sees, and the labels that come with it."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import tiny

from tests.distillation.small_models import (
    BATCH,
    CLASSES,
    batch_of,
    compiled,
    images_of,
    small_distiller,
    small_network,
)
from tf_cutnmix import CropAndFlip, CutMix, CutNMix, FMix, MixUp, OnlineDistiller

IMAGES, LABELS = map(tf.constant, batch_of(0))
STEP = tf.constant(1, tf.int64)


@pytest.mark.parametrize("augment", [None, CropAndFlip(0.25, seed=2)])
@pytest.mark.parametrize("layer", [CutNMix, CutMix, MixUp, None])
def test_views_are_augmented_and_then_mixed_by_the_draw_of_the_step(layer, augment):
    settings = {"num_peers": 2} if layer is CutNMix else {}
    mixing = layer(num_classes=CLASSES, seed=3, **settings) if layer else None
    model = small_distiller(mixing=mixing, augment=augment)
    shown = model.make_views(IMAGES, LABELS, STEP)
    images = augment(IMAGES, step=1) if augment else IMAGES
    expected = {"images": images, "labels": np.eye(CLASSES)[LABELS]}
    if mixing:
        expected = mixing({"images": images, "labels": LABELS}, step=1)
        assert not np.allclose(shown.labels, np.eye(CLASSES)[LABELS])
    each = tf.unstack(expected["images"], axis=1) if layer is CutNMix else [expected["images"]] * 2
    for view, image in zip(shown.views, each, strict=True):
        np.testing.assert_allclose(view, image, rtol=1e-6)
    assert (shown.views[0] is shown.views[1]) == (layer is not CutNMix)
    np.testing.assert_allclose(shown.labels, expected["labels"], rtol=1e-6)
    np.testing.assert_array_equal(shown.unmixed[1], images)
    if augment:
        later = model.make_views(IMAGES, LABELS, STEP + 1)
        assert not np.array_equal(later.unmixed[0], shown.unmixed[0])


def test_xla_compiles_the_views_of_a_graph_and_no_others():
    eager = []

    class Watched(CutNMix):
        def apply(self, batch, draw):
            eager.append(tf.executing_eagerly())
            return super().apply(batch, draw)

    mixing = Watched(2, num_classes=CLASSES, seed=3)
    model = small_distiller(mixing=mixing, augment=CropAndFlip(0.25, seed=2))
    batch = (IMAGES, LABELS, STEP)
    in_graph = tf.function(model.make_views, autograph=False).get_concrete_function(*batch)
    compiled_by_xla = [
        operation.get_attr("f").name
        for operation in in_graph.graph.get_operations()
        if "_XlaMustCompile" in operation.node_def.attr and operation.get_attr("_XlaMustCompile")
    ]
    assert len(compiled_by_xla) == 2
    assert eager == [False]
    found, expected = in_graph(*batch), model.make_views(*batch)
    assert eager == [False, True]
    np.testing.assert_array_equal(found[0], expected.views)
    np.testing.assert_array_equal(found[1], expected.labels)


@pytest.mark.parametrize("layer", [None, CutNMix, CutMix, MixUp, FMix])
def test_every_view_of_each_peers_own_holds_what_its_label_says(layer, eagerly):
    # Images of one value each, which nothing but the class tells: the mean of a view is the
    # mean of the values by its label.
    values = np.array([3, 40, 92, 180, 255], "float32")
    labels = np.array([4, 2, 1, 0, 3])
    images = values[labels][:, None, None, None] * np.ones([1, 8, 8, 3], "float32")
    settings = {"num_peers": 3} if layer is CutNMix else {}
    model = OnlineDistiller(
        [small_network() for _ in range(3)],
        layer(num_classes=CLASSES, seed=4, **settings) if layer else None,
        "independent",
        augment=CropAndFlip(crop=0, flip=False, seed=0),
        own_views=True,
    )
    views, mixed, *_ = model.make_views(tf.constant(images), tf.constant(labels), STEP)
    assert len(views) == 3
    assert layer is None or not np.allclose(mixed, np.eye(CLASSES)[labels])
    for view in views:
        expected = np.asarray(mixed) @ values
        np.testing.assert_allclose(np.mean(view, axis=(1, 2, 3)), expected, rtol=1e-5)


class Halved(keras.layers.Layer):
    """Somebody's augmentation that makes images smaller, in rows alone."""

    def call(self, images, training=False):
        return images[:, ::2]


@pytest.mark.parametrize("own_views", [False, True])
@pytest.mark.parametrize("mixing", [CutNMix(2, seed=0), FMix(seed=0), None], ids=repr)
def test_an_augmentation_may_change_the_size_and_weights_of_one_change_nothing(mixing, own_views):
    def trained(weights):
        random.seed(0)
        peers = [tiny((None, None, 3), 10) for _ in range(2)]
        settings = {"augment": Halved(), "mixing": mixing, "own_views": own_views}
        model = compiled(OnlineDistiller(peers, method="independent", **settings))
        labels = np.eye(10, dtype="float32")[[3, 1, 4, 1]]
        return model.train_on_batch(images_of(BATCH), labels, weights, return_dict=True)

    assert trained(np.ones(BATCH)) == trained(None)


def test_layers_of_keras_augment_and_mix():
    mixing, augment = keras.layers.CutMix(seed=0), keras.layers.RandomFlip(seed=0)
    model = compiled(small_distiller(mixing=mixing, augment=augment))
    shown = model.make_views(IMAGES, LABELS, STEP)
    assert not np.array_equal(shown.views[0], shown.unmixed[0])
    assert np.isfinite(model.train_on_batch(*batch_of(0))).all()
    with pytest.raises(ValueError, match="CutMix does not say how it mixed"):
        model.train_on_batch(*batch_of(0), np.ones(BATCH))
