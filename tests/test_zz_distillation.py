"""Overflow that the loss does not show, what frozen teachers and averages do, what methods ask."""

import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_peers import CLASSES, tiny_peer

from tf_cutnmix import OnlineDistiller, sharing, teacher
from tf_cutnmix.errors import DivergenceError
from tf_cutnmix.methods import METHODS
from tf_cutnmix.parts import Forward, FrozenTeacher

TEACHER = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"


# Statistics that overflow


def amplified_network() -> keras.Model:
    """A network that multiplies its images by one weight before it normalises them."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones")(images)
    x = keras.layers.BatchNormalization()(x)
    features = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(
        images, {"features": features, "logits": keras.layers.Dense(CLASSES)(features)}
    )


def state_of(model: OnlineDistiller) -> dict[str, np.ndarray]:
    variables = [v for network in model.networks.values() for v in network.variables]
    variables += [*model.optimizer.variables, model.step]
    return {f"{i} {v.path}": v.numpy() for i, v in enumerate(variables)}


@pytest.mark.parametrize("owner", ["peers", "averages"])
def test_a_step_in_which_a_moving_variance_overflows_is_taken_back(owner):
    keras.utils.set_random_seed(0)
    model = OnlineDistiller([amplified_network(), amplified_network()], None, "cutnmix")
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), run_eagerly=True)
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    labels = np.arange(4)
    model.train_on_batch(images, labels)
    weight = getattr(model, owner)[1].layers[1].weights[0]
    # The square of 1e20 is beyond float32; what is divided by its root is not.
    weight.assign(1e20 * np.ones(weight.shape))
    before = state_of(model)
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert np.all(np.isfinite(list(logs.values())))
    with pytest.raises(
        DivergenceError, match="step 1: the statistic of BatchNormalization is not finite"
    ):
        model.check_finite()
    for (name, found), expected in zip(state_of(model).items(), before.values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


# The frozen teacher


def test_the_frozen_teacher_sees_whole_numbers_rounded_to_nearest_and_in_range():
    part = FrozenTeacher(str(TEACHER), [tiny_peer()])
    seen = []

    def predict(images):
        seen.append(images)
        return {"logits": tf.zeros([1, CLASSES])}

    part.teacher = types.SimpleNamespace(predict=predict)
    view = np.float32([0.4, 0.6, 7.0, 99.9, 254.7, 255.4, -0.4, -3.0, 300.0])
    view = view.reshape(1, 3, 3, 1) * np.ones([1, 1, 1, 3], "float32")
    forward = Forward(tf.constant(0), tf.zeros([1, CLASSES]), [tf.constant(view)], [])
    part(forward)
    (images,) = seen
    assert images.dtype == tf.uint8
    expected = [0, 1, 7, 100, 255, 255, 0, 0, 255]
    np.testing.assert_array_equal(np.reshape(images[..., 0], -1), expected)


# Averaged networks that share their input


def networks_that_drop_out() -> list[keras.Model]:
    """Two networks that share an input, a normalisation and a dropout."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.9)(keras.layers.BatchNormalization(momentum=0.8)(images))
    features = keras.layers.GlobalMaxPooling2D()(keras.layers.Dropout(0.9)(x))
    return [
        keras.Model(images, {"features": features, "logits": keras.layers.Dense(5)(features)})
        for _ in range(2)
    ]


@pytest.mark.parametrize("one_view", [True, False], ids=["one view", "views of their own"])
def test_nothing_drops_out_of_averages_that_share_while_they_teach(one_view):
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    views = [images, images if one_view else 255 - images]
    peers = networks_that_drop_out()
    averages = teacher.averaged_copies(peers)
    run = sharing.Together(averages)
    assert run.sees_one(views) == one_view
    outputs = teacher.Normalising(averages, peers).teach(run, views)
    for average, view, output in zip(averages, views, outputs, strict=True):
        scale = np.sqrt(view.var(axis=(0, 1, 2)) + 1e-3)
        features = ((view - view.mean(axis=(0, 1, 2))) / scale).max(axis=(1, 2))
        np.testing.assert_allclose(output["features"], features, rtol=1e-4, atol=1e-4)
        kernel, bias = average.layers[-1].get_weights()
        np.testing.assert_allclose(output["logits"], features @ kernel + bias, rtol=1e-3, atol=1e-4)


# What methods ask of their peers


def methods_with(fact: str) -> set[str]:
    return {name for name, recipe in METHODS.items() if getattr(recipe, fact)}


def test_each_method_takes_as_few_peers_as_it_can_teach():
    alone = {"independent", "cutnmix", "kd", "dlb"}
    found = {name: recipe.min_peers for name, recipe in METHODS.items()}
    assert found == {name: 1 if name in alone else 2 for name in METHODS} | {"okddip": 3}


def test_the_methods_whose_papers_share_a_trunk_ask_for_one():
    assert methods_with("shares") == {"cl_ilr", "one", "pcl", "ffl"}
    assert methods_with("mean_gradient") == {"cl_ilr"}


def test_the_methods_that_compare_features_or_hold_images_out_say_so():
    assert methods_with("alike") == {"okddip"}
    assert methods_with("held_out") == {"kdcl_general"}
