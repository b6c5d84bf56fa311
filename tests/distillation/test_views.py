"""What each peer sees, and the labels that come with it."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import tiny

from tests.distillation.small_models import (
    CLASSES,
    assert_same_state,
    batch_of,
    compiled,
    images_of,
    small_distiller,
    state_of,
)
from tf_cutnmix import CropAndFlip, CutMix, CutNMix, FMix, MixUp, OnlineDistiller


def test_each_peer_sees_its_own_view_of_cutnmix():
    mixing = CutNMix(2, num_classes=CLASSES, seed=3)
    model = small_distiller(mixing=mixing)
    images, labels = batch_of(0)
    views, found, *_ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(1))
    expected = mixing({"images": images, "labels": labels}, step=1)
    assert len(views) == 2
    for k, view in enumerate(views):
        np.testing.assert_array_equal(view, expected["images"][:, k])
    assert not np.array_equal(*views)
    np.testing.assert_array_equal(found, expected["labels"])


def test_xla_compiles_the_views_of_a_graph_and_no_others():
    eager = []

    class Watched(CutNMix):
        def apply(self, batch, draw):
            eager.append(tf.executing_eagerly())
            return super().apply(batch, draw)

    mixing = Watched(2, num_classes=CLASSES, seed=3)
    model = small_distiller(mixing=mixing, augment=CropAndFlip(0.25, seed=2))
    batch = [*map(tf.constant, batch_of(0)), tf.constant(1, tf.int64)]
    in_graph = tf.function(model.make_views, autograph=False).get_concrete_function(*batch)
    compiled_by_xla = [
        operation.get_attr("f").name
        for operation in in_graph.graph.get_operations()
        if "_XlaMustCompile" in operation.node_def.attr and operation.get_attr("_XlaMustCompile")
    ]
    assert len(compiled_by_xla) == 2
    assert eager == [False]
    (views, labels, *_), (expected, expected_labels, *_) = (
        in_graph(*batch),
        model.make_views(*batch),
    )
    assert eager == [False, True]
    np.testing.assert_array_equal(views, expected)
    np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("layer", [CutMix, MixUp])
def test_peers_share_the_views_of_a_mixing_that_makes_one(layer):
    mixing = layer(alpha=1.0, num_classes=CLASSES, seed=3)
    images, labels = batch_of(0)
    model = small_distiller(mixing=mixing)
    views, found, *_ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(1))
    expected = mixing({"images": images, "labels": labels}, step=1)
    assert len(views) == 2
    for view in views:
        np.testing.assert_allclose(view, expected["images"], rtol=1e-6)
    np.testing.assert_allclose(found, expected["labels"], rtol=1e-6)
    assert not np.allclose(expected["images"], images)


def test_without_mixing_peers_see_the_images_themselves():
    images, labels = batch_of(0)
    model = small_distiller(mixing=None)
    views, found, *_ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(1))
    assert len(views) == 2
    for view in views:
        np.testing.assert_array_equal(view, images)
    np.testing.assert_array_equal(found, np.eye(CLASSES)[labels])


def test_augmentation_comes_before_mixing_and_follows_the_step():
    augment, mixing = CropAndFlip(0.25, seed=2), CutNMix(2, num_classes=CLASSES, seed=3)
    model = small_distiller(mixing=mixing, augment=augment)
    images, labels = map(tf.constant, batch_of(0))
    views, _, *_ = model.make_views(images, labels, tf.constant(1))
    moved = augment(images, step=1)
    expected = mixing({"images": moved, "labels": labels}, step=1)["images"]
    np.testing.assert_array_equal(tf.stack(views, axis=1), expected)
    later, _, *_ = model.make_views(images, labels, tf.constant(2))
    assert not np.array_equal(later[0], views[0])


@pytest.mark.parametrize("mixing", [CutNMix(2, seed=0), None], ids=["cutnmix", "none"])
def test_integers_columns_and_one_hot_labels_train_alike(mixing):
    images, labels = batch_of(0)
    expected = compiled(small_distiller(mixing=mixing))
    expected.train_on_batch(images, labels)
    kinds = [labels[:, None], labels.astype("uint8"), np.eye(CLASSES, dtype="float32")[labels]]
    for kind in kinds:
        model = compiled(small_distiller(mixing=mixing))
        model.train_on_batch(images, kind)
        assert_same_state(model, state_of(expected))


@pytest.mark.parametrize("wrong", [CLASSES, -1])
@pytest.mark.parametrize("mixing", [CutMix(num_classes=CLASSES, seed=0), None], ids=["mix", "none"])
def test_integer_labels_out_of_range_are_refused(mixing, wrong):
    model = compiled(small_distiller(mixing=mixing))
    with pytest.raises(ValueError, match=rf"num_classes - 1 = 4\. Received: {wrong}$"):
        model.train_on_batch(images_of(2), np.array([0, wrong]))


class Halved(keras.layers.Layer):
    """Somebody's augmentation that makes images smaller, in rows alone."""

    def call(self, images, training=False):
        return images[:, ::2]


@pytest.mark.parametrize("own_views", [False, True])
@pytest.mark.parametrize("mixing", [CutNMix(2, seed=0), FMix(seed=0), None], ids=repr)
def test_an_augmentation_may_change_the_size_and_weights_of_one_change_nothing(mixing, own_views):
    def trained(weights):
        peers = [tiny((None, None, 3), 10) for _ in range(2)]
        settings = {"augment": Halved(), "mixing": mixing, "own_views": own_views}
        model = compiled(OnlineDistiller(peers, method="independent", **settings))
        labels = np.eye(10, dtype="float32")[[3, 1, 4, 1]]
        return model.train_on_batch(images_of(4), labels, weights, return_dict=True)

    random.seed(0)
    plain = trained(None)
    random.seed(0)
    assert trained(np.ones(4)) == plain
