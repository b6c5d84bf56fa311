"""The moving average: its algebra, its momentum, and the networks that it keeps."""

import math
import random

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import (
    Config,
    CutNMix,
    Method,
    OnlineDistiller,
    adapt,
    share_stages,
    train_and_evaluate,
)
from tf_cutnmix.distillation import teacher
from tf_cutnmix.distillation.method import METHODS
from tf_cutnmix.networks import sharing
from tf_cutnmix.networks.blocks import BatchNormalization

values = st.floats(-100, 100, width=32)
momenta = st.floats(0, 0.999)
IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype("float32")


def variable(value, dtype: str = "float32") -> keras.Variable:
    return keras.Variable(np.asarray(value, dtype), dtype=dtype)


def network_of(layer, images=None, classes: int = 5) -> keras.Model:
    """A network whose features are the largest values of what a layer makes of the images."""
    images = keras.Input((8, 8, 3)) if images is None else images
    features = keras.layers.GlobalMaxPooling2D()(keras.layers.Dropout(0.9)(layer(images)))
    logits = keras.layers.Dense(classes)(features)
    return keras.Model(images, {"features": features, "logits": logits})


# The average


@given(values, values, values, momenta)
def test_two_updates_follow_the_closed_form(start, first, second, momentum):
    average = variable([start])
    teacher.update([average], [variable([first])], momentum)
    teacher.update([average], [variable([second])], momentum)
    expected = momentum**2 * start + (1 - momentum) * (momentum * first + second)
    np.testing.assert_allclose(average, [expected], rtol=1e-4, atol=1e-4)


def test_the_average_is_the_plain_mean_until_the_momentum_is_reached():
    history = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    average = variable([99.0, 99.0, 99.0])
    for step, value in enumerate(history):
        teacher.update([average], [variable(value)], teacher.momentum_at(step, 0.9))
    np.testing.assert_allclose(average, history.mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "memory", "expected"),
    [(100_000, 0.01, 0.999), (1_000, 0.1, 0.99), (200, 0.01, 0.5), (100, 0.01, 0), (1, 0.01, 0)],
)
def test_the_memory_is_a_part_of_the_steps(steps, memory, expected):
    np.testing.assert_allclose(teacher.momentum_for(steps, memory), expected, atol=1e-12)


def test_whole_numbers_are_copied_and_what_is_the_averages_own_is_left():
    averages = [variable(3, "int64"), variable([7, 8], "uint32"), variable([1.0]), variable([2.0])]
    peers = [variable(10, "int64"), variable([1, 2], "uint32"), variable([5.0]), variable([6.0])]
    teacher.update(averages, peers, 0.5, own=averages[2:3])
    for found, expected in zip(averages, (10, [1, 2], [1.0], [4.0]), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="shorter"):
        teacher.update(averages, peers[:-1], 0.5)


# The networks


def test_an_averaged_copy_is_the_peer_as_it_was_and_has_nothing_to_train():
    peer = network_of(keras.layers.Conv2D(4, 3))
    average = teacher.averaged_copies([peer])[0]
    before = {name: output.numpy() for name, output in peer(IMAGES).items()}
    peer.set_weights([weight + 1 for weight in peer.get_weights()])
    found = average(IMAGES)
    assert set(found) == {"features", "logits"}
    for name in found:
        np.testing.assert_array_equal(found[name], before[name])
    assert not average.trainable_variables
    assert len(average.variables) == len(peer.variables)
    assert len(peer.trainable_variables) == 4


class Unsaved(keras.layers.Layer):
    def __init__(self, size):
        super().__init__()

    def call(self, inputs):
        return inputs


class OfUnsaved(keras.Model):
    def __init__(self, **options):
        images = keras.Input((8, 8, 3))
        super().__init__(images, Unsaved(3)(keras.layers.Conv2D(4, 3)(images)), **options)

    def get_config(self):
        return {"name": self.name}


def test_a_layer_that_cannot_be_copied_is_named():
    with pytest.raises(ValueError, match=r"the layer 'unsaved' \(Unsaved\) cannot be copied") as e:
        teacher.averaged_copies([network_of(Unsaved(3))])
    assert "unexpected keyword argument 'trainable'" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", ["lambda", "whole"])
def test_a_lambda_layer_and_a_model_that_can_be_copied_whole_are(kind):
    images = keras.Input((8, 8, 3))
    if kind == "lambda":
        peer = network_of(keras.layers.Lambda(lambda x: x / 255.0))
    else:  # though its layers cannot
        peer = adapt(keras.Model(images, OfUnsaved()(images)), 10)
    average = teacher.averaged_copies([peer])[0]
    np.testing.assert_array_equal(average(IMAGES)["logits"], peer(IMAGES)["logits"])


# Statistics while the averages teach


class Composite(keras.layers.Layer):
    """Normalises and drops out inside, as the layers of foreign networks may."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.normalise = keras.layers.BatchNormalization(momentum=0.8)
        self.drop = keras.layers.Dropout(0.9)

    def call(self, inputs, training=None):
        return self.drop(self.normalise(inputs, training=training), training=training)


class Centring(keras.layers.Layer):
    """Has statistics of its own, one of them a count, and a part that drops out."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.drop = keras.layers.Dropout(0.9)

    def build(self, shape) -> None:
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False)
        self.seen = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)

    def call(self, inputs, training=None):
        mean = self.mean
        if training:
            mean = keras.ops.mean(inputs, axis=(0, 1, 2))
            self.mean.assign(0.8 * self.mean + 0.2 * mean)
            self.seen.assign_add(1)
        return self.drop(inputs - mean, training=training)


def keras_normalisation(x):
    return keras.layers.BatchNormalization(momentum=0.8)(x)


def nested(x):
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, keras_normalisation(keras.layers.Dropout(0.9)(inner)))(x)


NORMALISING = {
    "Keras' layer": keras_normalisation,
    "our layer": lambda x: BatchNormalization(momentum=0.8)(x),
    "inside a model": nested,
    "inside a layer": lambda x: Composite()(x),
    "a layer of somebody's own": lambda x: Centring()(x),
}


def taught(peers, views, averages=None) -> tuple[list[keras.Model], list, teacher.Normalising]:
    averages = averages or teacher.averaged_copies(peers)
    normalising = teacher.Normalising(zip(averages, peers, strict=True))
    with normalising.by_batch():
        outputs = normalising.teach(sharing.Together(averages), views)
    return averages, outputs, normalising


@pytest.mark.parametrize("name", NORMALISING)
def test_what_teaches_is_normalised_by_the_batch_and_nothing_drops_out(name):
    (average,), (output,), normalising = taught([network_of(NORMALISING[name])], [IMAGES])

    def features(mean, variance) -> np.ndarray:
        return ((IMAGES - mean) / np.sqrt(variance + 1e-3)).max(axis=(1, 2))

    mean, variance = IMAGES.mean(axis=(0, 1, 2)), IMAGES.var(axis=(0, 1, 2))
    moving_mean, second = (statistic.numpy() for statistic in normalising.statistics)
    np.testing.assert_allclose(moving_mean, 0.2 * mean, rtol=1e-4, atol=1e-6)
    if name == "a layer of somebody's own":
        assert second == 1
        variance = moving_variance = 1 - 1e-3
    else:
        np.testing.assert_allclose(second, 0.8 + 0.2 * variance, rtol=1e-4, atol=1e-6)
        moving_variance = second
    np.testing.assert_allclose(output["features"], features(mean, variance), rtol=1e-4, atol=1e-5)
    # Afterwards it predicts with its moving statistics again.
    found, expected = average(IMAGES)["features"], features(moving_mean, moving_variance)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    own = {id(v) for v in average.non_trainable_weights}
    assert all(id(v) in own for v in normalising.statistics)


def assert_still(average: keras.Model, before: list[np.ndarray]) -> None:
    for found, old in zip(average.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, old)


@pytest.mark.parametrize("name", NORMALISING)
def test_a_layer_that_is_frozen_in_a_peer_is_frozen_in_its_average(name):
    peer = network_of(NORMALISING[name])
    averages = teacher.averaged_copies([peer])
    peer.layers[1].trainable = False
    before = averages[0].get_weights()
    _, (output,), normalising = taught([peer], [IMAGES], averages)
    assert normalising.statistics == []
    np.testing.assert_array_equal(output["features"], averages[0](IMAGES)["features"])
    assert_still(averages[0], before)


def test_a_wrapper_leaves_the_weights_of_what_it_wraps():
    peer = network_of(keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)))
    before = peer.get_weights()
    (average,), _, normalising = taught([peer], [IMAGES])
    assert normalising.statistics == []
    assert_still(average, before)


def test_what_peers_share_moves_its_statistics_once_in_a_step():
    peers = share_stages([tiny_peer() for _ in range(3)], "stage1")
    views = [IMAGES * 60, IMAGES * 90, 255 - IMAGES]
    averages, outputs, normalising = taught(peers, views)
    shared = next(layer for layer in averages[0].layers if "batch_norm" in layer.name)
    stems = [np.asarray(output["stem"]) for output in outputs]
    mean = 0.01 * np.mean([stem.mean(axis=(0, 1, 2)) for stem in stems], axis=0)
    np.testing.assert_allclose(shared.moving_mean, mean, rtol=1e-4, atol=1e-6)
    variance = 0.99 + 0.01 * np.mean([stem.var(axis=(0, 1, 2)) for stem in stems], axis=0)
    np.testing.assert_allclose(shared.moving_variance, variance, rtol=1e-4)
    # Two of what is shared, and two of each peer's own.
    assert len(normalising.statistics) == 2 + 3 * 2


@pytest.mark.parametrize("one_view", [True, False], ids=["one view", "views of their own"])
def test_networks_that_share_a_normalisation_are_taught_alike_by_one_view_and_by_several(one_view):
    random.seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.9)(Centring()(inputs))
    peers = [network_of(lambda _, x=x: x, inputs) for _ in range(2)]
    views = [IMAGES, IMAGES if one_view else IMAGES + 1]
    averages, outputs, normalising = taught(peers, views)
    assert sharing.Together(averages).sees_one(views) == one_view
    mean, seen = normalising.statistics
    assert int(seen) == 1
    expected = np.mean([view.mean(axis=(0, 1, 2)) for view in views], axis=0)
    np.testing.assert_allclose(mean, 0.2 * expected, rtol=1e-4)
    for average, view, output in zip(averages, views, outputs, strict=True):
        features = (view - view.mean(axis=(0, 1, 2))).max(axis=(1, 2))
        np.testing.assert_allclose(output["features"], features, rtol=1e-4, atol=1e-4)
        kernel, bias = average.layers[-1].get_weights()
        np.testing.assert_allclose(output["logits"], features @ kernel + bias, rtol=1e-3, atol=1e-4)


# In training


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    images = np.clip(data.images[:count, ..., np.newaxis] * 16, 0, 255).astype("uint8")
    return images.repeat(3, axis=-1), data.target[:count].astype("int32")


def distiller(method: Method | str, rate: float, momentum: float, **how) -> OnlineDistiller:
    model = OnlineDistiller(
        [tiny_peer(16, stem=8), tiny_peer(16, stem=8)],
        CutNMix(2, num_classes=CLASSES, seed=0),
        method,
        momentum=momentum,
        weight_decay=5e-4,
    )
    model.compile(keras.optimizers.SGD(rate, momentum=0.9, nesterov=True), **how)
    return model


@pytest.mark.long
def test_the_teacher_stays_better_than_a_guess_at_a_high_rate():
    method = Method("cutnmix", ramp_steps=50)
    model = distiller(method, rate=0.3, momentum=0.5, jit_compile=False)
    images, labels = digits(320)
    for _ in range(10):
        model.fit(images, labels, batch_size=16, verbose=0, shuffle=False)
        assert model.evaluate(images, labels, verbose=0)[0] < math.log(CLASSES)
    assert int(model.step.value) == 200


@pytest.mark.parametrize(
    ("method", "own"),
    [
        *[("dml", False), (Method("cutnmix", {"teacher": 0.0}), False)],
        *[("cutnmix", True), (Method("cutnmix", {"teacher": 0.1, "feature": 0}), True)],
    ],
)
def test_statistics_are_an_averages_own_where_it_teaches_and_else_the_average_of_the_peers(
    method, own
):
    def statistics_of(network: keras.Model) -> list[np.ndarray]:
        return [v.numpy().copy() for v in network.weights if "moving" in v.path]

    model = distiller(method, rate=0.1, momentum=0.9, run_eagerly=True)
    of_peer = []
    for _ in range(3):
        model.train_on_batch(*digits(32))
        of_peer.append(statistics_of(model.peers[0]))
    means = [np.mean(history, axis=0) for history in zip(*of_peer, strict=True)]
    for found, mean in zip(statistics_of(model.averages[0]), means, strict=True):
        if own:
            assert np.abs(found - mean).max() > 1e-3
        else:
            np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_is_about_as_good_as_the_ensemble_after_a_short_run(method, tmp_path):
    config = Config(
        method=method,
        num_peers=3,
        epochs=30,
        teacher="savedmodels/digits_resnet8/1",
        export="",
        workdir=str(tmp_path / "run"),
    )
    test = train_and_evaluate(config)["last"]["test"]
    assert test["teacher_accuracy"] == pytest.approx(test["ensemble_accuracy"], abs=0.03)
