"""Heat maps: Grad-CAM, against class activation maps and slopes by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import noise
from tf_cutnmix import build_network
from tf_cutnmix.networks.heatmap import heatmaps, looked_at

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype("float32")


def network(hidden: int = 0, sign: int = 1, seed: int = 0) -> keras.Model:
    """Maps of 4 x 4, their mean, perhaps a hidden layer, the logits; below 0 by their sign."""
    images = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(6, 4, strides=4, activation="relu")(images / 255)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    inside = keras.layers.Dense(hidden, activation="relu")(features) if hidden else features
    logits = keras.layers.Dense(3, name="logits")(inside)
    model = keras.Model(images, {"stage1": maps, "features": inside, "logits": logits})
    weights = [noise(w.shape, seed + k) * (w.ndim > 1) for k, w in enumerate(model.get_weights())]
    if sign < 0:
        weights[0], weights[2] = np.abs(weights[0]), -np.abs(weights[2])
    model.set_weights(weights)
    return model


def enlarged(heat: np.ndarray) -> np.ndarray:
    heat = tf.image.resize(np.maximum(heat, 0)[..., np.newaxis], (16, 16)).numpy()[..., 0]
    largest = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, largest, out=np.zeros_like(heat), where=largest > 0)


def test_of_pooled_maps_and_a_linear_classifier_it_is_the_class_activation_map() -> None:
    resnet = build_network("resnet8", (16, 16, 3), 4)
    for model, stage in ((network(), "stage1"), (resnet, "stage3")):
        outputs = model(IMAGES, training=False)
        kernel = model.get_layer("logits").kernel.numpy()
        weights = kernel[:, np.argmax(outputs["logits"], axis=-1)]
        expected = enlarged(np.einsum("bhwc,cb->bhw", outputs[stage].numpy(), weights))
        found = heatmaps([model], tf.constant(IMAGES)).numpy()
        assert expected.max() == pytest.approx(1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_through_a_hidden_layer_the_weights_are_the_slopes() -> None:
    model = network(hidden=7)
    outputs = model(IMAGES, training=False)
    *_, first, _, last, _ = model.get_weights()
    classes = np.argmax(outputs["logits"], axis=-1)
    slopes = (last[:, classes].T * (outputs["features"].numpy() > 0)) @ first.T
    expected = enlarged(np.einsum("bhwc,bc->bhw", outputs["stage1"].numpy(), slopes))
    assert expected.max() == pytest.approx(1)
    np.testing.assert_allclose(heatmaps([model], tf.constant(IMAGES)), expected, atol=1e-5)


def test_networks_are_asked_for_the_class_of_their_mean_and_each_counts_alike() -> None:
    """One is hardly sure of a class, the other, whose slopes are larger, very sure of the next."""
    one, other = network(), network(seed=9)
    weights = other.get_weights()
    *before, last, _ = one.get_weights()
    one.set_weights([*before, last / 100, np.zeros(3)])
    own = np.argmax(one(IMAGES, training=False)["logits"], axis=-1)
    assert len(set(own)) == 1
    wanted = (own[0] + 1) % 3
    other.set_weights([*weights[:-1], 100.0 * np.eye(3)[wanted]])
    heats = [
        enlarged(n(IMAGES, training=False)["stage1"].numpy() @ n.get_weights()[2][:, wanted])
        for n in (one, other)
    ]
    assert max(heats[0].max(), heats[1].max()) == pytest.approx(1)
    mean = sum(heats)
    mean /= mean.max(axis=(1, 2), keepdims=True)
    for networks in ([one, other], [other, one]):
        np.testing.assert_allclose(heatmaps(networks, tf.constant(IMAGES)), mean, atol=1e-5)


def test_where_nothing_speaks_for_the_class_it_is_0() -> None:
    assert not np.any(heatmaps([network(sign=-1)], tf.constant(IMAGES)))


@pytest.mark.parametrize(
    ("name", "size", "stage"),
    [
        ("resnet8", 32, "stage3"),
        ("resnet8", 8, "stage2"),
        ("vgg11", 32, "stage3"),
        ("resnet8", 3, "stem"),
    ],
)
def test_the_last_stage_that_tells_places_apart_is_looked_at(name, size, stage) -> None:
    assert looked_at(build_network(name, (size, size, 3), 4)) == stage


def test_a_network_without_stages_has_none() -> None:
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    logits = keras.layers.Dense(2)(features)
    assert looked_at(keras.Model(images, {"features": features, "logits": logits})) is None
