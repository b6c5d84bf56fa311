"""The moving average: its algebra, its momentum, and the networks that it keeps."""

import random

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_peers import tiny_peer
from tf_cutnmix import share_stages
from tf_cutnmix.distillation import teacher
from tf_cutnmix.networks import sharing
from tf_cutnmix.networks.blocks import BatchNormalization

values = st.floats(-100, 100, width=32)
momenta = st.floats(0, 0.999)


def variable(value, dtype: str = "float32") -> keras.Variable:
    return keras.Variable(np.asarray(value, dtype), dtype=dtype)


def small_network() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(images)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, {"features": features, "logits": keras.layers.Dense(5)(features)})


def disturb(network: keras.Model, seed: int) -> None:
    """Other values for every weight and every statistic; variances stay positive."""
    generator = np.random.default_rng(seed)
    network.set_weights([generator.uniform(0.1, 1, w.shape) for w in network.get_weights()])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype("float32")


def test_momentum_zero_copies():
    average = variable([5.0, -3.0])
    teacher.update([average], [variable([1.5, 2.5])], 0.0)
    np.testing.assert_array_equal(average, [1.5, 2.5])


@given(values, momenta, st.integers(1, 20))
def test_a_constant_is_a_fixed_point(value, momentum, updates):
    average = variable([value])
    for _ in range(updates):
        teacher.update([average], [variable([value])], momentum)
    np.testing.assert_allclose(average, [value], rtol=1e-5, atol=1e-30)


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
    ("step", "largest", "expected"),
    [(0, 0.9, 0.0), (1, 0.9, 0.5), (3, 0.9, 0.75), (9, 0.9, 0.9), (10**6, 0.9, 0.9), (1, 0.2, 0.2)],
)
def test_the_momentum_rises_to_its_largest_value(step, largest, expected):
    np.testing.assert_allclose(teacher.momentum_at(np.int64(step), largest), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "memory", "expected"),
    [
        (100_000, 0.01, 0.999),
        (10_000, 0.01, 0.99),
        (1_000, 0.1, 0.99),
        (200, 0.01, 0.5),
        (100, 0.01, 0.0),
        (10, 0.01, 0.0),
        (1, 0.01, 0.0),
    ],
)
def test_the_memory_is_a_part_of_the_steps(steps, memory, expected):
    np.testing.assert_allclose(teacher.momentum_for(steps, memory), expected, atol=1e-12)


@given(st.integers(1, 10**7), st.floats(0, 1))
def test_every_run_has_a_momentum_of_at_least_zero_and_below_one(steps, memory):
    assert 0 <= teacher.momentum_for(steps, memory) < 1


def test_whole_numbers_are_copied():
    counter, seed = variable(3, "int64"), variable([7, 8], "uint32")
    teacher.update([counter, seed], [variable(10, "int64"), variable([1, 2], "uint32")], 0.9)
    assert int(counter.value) == 10
    np.testing.assert_array_equal(seed, [1, 2])


def test_an_update_of_networks_of_unlike_size_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        teacher.update([variable(1.0), variable(2.0)], [variable(1.0)], 0.5)


def test_statistics_of_batch_normalisation_are_averaged_as_weights_are():
    peer = small_network()
    average = teacher.averaged_copies([peer])[0]
    before = average.get_weights()
    disturb(peer, seed=1)
    teacher.update(average.variables, peer.variables, 0.75)
    for found, old, new in zip(average.get_weights(), before, peer.get_weights(), strict=True):
        np.testing.assert_allclose(found, 0.75 * old + 0.25 * new, rtol=1e-5)
    moving_mean = average.get_layer(index=2).moving_mean
    np.testing.assert_allclose(
        moving_mean, 0.25 * np.asarray(peer.get_layer(index=2).moving_mean), rtol=1e-5
    )


def test_an_averaged_copy_gives_the_same_outputs(images):
    peer = small_network()
    disturb(peer, seed=2)
    expected, found = peer(images), teacher.averaged_copies([peer])[0](images)
    assert set(found) == {"features", "logits"}
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_an_averaged_copy_has_nothing_to_train():
    peer = small_network()
    average = teacher.averaged_copies([peer])[0]
    assert not average.trainable_variables
    assert len(average.variables) == len(peer.variables)
    assert len(peer.trainable_variables) == 5


def test_an_averaged_copy_stays_as_it_is_when_the_peer_changes(images):
    peer = small_network()
    average = teacher.averaged_copies([peer])[0]
    before = average(images)["logits"]
    disturb(peer, seed=3)
    np.testing.assert_array_equal(average(images)["logits"], before)


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
    """Has statistics of its own, and a part that drops out."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.drop = keras.layers.Dropout(0.9)

    def build(self, shape) -> None:
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False)

    def call(self, inputs, training=None):
        mean = self.mean
        if training:
            mean = keras.ops.mean(inputs, axis=(0, 1, 2))
            self.mean.assign(0.8 * self.mean + 0.2 * mean)
        return self.drop(inputs - mean, training=training)


def keras_normalisation(x):
    return keras.layers.BatchNormalization(momentum=0.8)(x)


def our_normalisation(x):
    return BatchNormalization(momentum=0.8)(x)


def nested(x):
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, keras_normalisation(keras.layers.Dropout(0.9)(inner)))(x)


NORMALISING = {
    "Keras' layer": keras_normalisation,
    "our layer": our_normalisation,
    "inside a model": nested,
    "inside a layer": lambda x: Composite()(x),
    "a layer of somebody's own": lambda x: Centring()(x),
}


def first_normalises(normalise) -> keras.Model:
    """A network whose statistics are those of its images."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.9)(normalise(images))
    features = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(images, {"features": features, "logits": keras.layers.Dense(5)(features)})


def taught(peers, views) -> tuple[list[keras.Model], list, teacher.Normalising]:
    averages = teacher.averaged_copies(peers)
    normalising = teacher.Normalising(averages, peers)
    with normalising.told_to_train():
        outputs = normalising.teach(sharing.Together(averages), views)
    return averages, outputs, normalising


@pytest.mark.parametrize("name", NORMALISING)
def test_statistics_move_to_those_of_the_batch_that_is_seen(name, images):
    (average,), _, normalising = taught([first_normalises(NORMALISING[name])], [images])
    mean = 0.2 * images.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(normalising.statistics[0], mean, rtol=1e-4, atol=1e-6)
    if name != "a layer of somebody's own":
        variance = 0.8 + 0.2 * images.var(axis=(0, 1, 2))
        np.testing.assert_allclose(normalising.statistics[1], variance, rtol=1e-4, atol=1e-6)
    own = {id(v) for v in average.non_trainable_weights}
    assert all(id(v) in own for v in normalising.statistics)


@pytest.mark.parametrize("name", NORMALISING)
def test_what_teaches_is_normalised_by_the_batch_and_nothing_drops_out(name, images):
    (average,), (output,), normalising = taught([first_normalises(NORMALISING[name])], [images])

    def features(mean, *variance) -> np.ndarray:
        scale = np.sqrt(variance[0] + 1e-3) if variance else 1.0
        return ((images - mean) / scale).max(axis=(1, 2))

    moving = [statistic.numpy() for statistic in normalising.statistics]
    batch = [images.mean(axis=(0, 1, 2)), images.var(axis=(0, 1, 2))][: len(moving)]
    np.testing.assert_allclose(output["features"], features(*batch), rtol=1e-4, atol=1e-5)
    # Afterwards it predicts with its moving statistics again.
    found = average(images, training=False)["features"]
    np.testing.assert_allclose(found, features(*moving), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NORMALISING)
def test_a_layer_that_is_frozen_in_a_peer_is_frozen_in_its_average(name, images):
    peer = first_normalises(NORMALISING[name])
    averages = teacher.averaged_copies([peer])
    for layer in peer.layers[1:2]:
        layer.trainable = False
    normalising = teacher.Normalising(averages, [peer])
    assert normalising.statistics == []
    before = averages[0].get_weights()
    with normalising.told_to_train():
        (output,) = normalising.teach(sharing.Together(averages), [images])
    np.testing.assert_array_equal(output["features"], averages[0](images)["features"])
    for found, old in zip(averages[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, old)


def test_a_wrapper_leaves_the_weights_of_what_it_wraps(images):
    peer = first_normalises(keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)))
    before = peer.get_weights()
    (average,), _, normalising = taught([peer], [images])
    assert normalising.statistics == []
    for found, old in zip(average.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, old)


def test_what_peers_share_moves_its_statistics_once_in_a_step(images):
    peers = [tiny_peer() for _ in range(3)]
    peers = share_stages(peers, "stage1")
    views = [images * 60, images * 90, 255 - images]
    averages, outputs, normalising = taught(peers, views)
    (shared,) = [layer for layer in averages[0].layers if "batch_norm" in layer.name][:1]
    stems = [np.asarray(output["stem"]) for output in outputs]
    mean = 0.01 * np.mean([stem.mean(axis=(0, 1, 2)) for stem in stems], axis=0)
    np.testing.assert_allclose(shared.moving_mean, mean, rtol=1e-4, atol=1e-6)
    variance = 0.99 + 0.01 * np.mean([stem.var(axis=(0, 1, 2)) for stem in stems], axis=0)
    np.testing.assert_allclose(shared.moving_variance, variance, rtol=1e-4)
    # Two of what is shared, and two of each peer's own.
    assert len(normalising.statistics) == 2 + 3 * 2


def test_one_view_moves_what_is_shared_as_several_equal_ones_do(images):
    peers = share_stages([tiny_peer() for _ in range(2)], "stage1")
    once, outputs, _ = taught(peers, [images, images])
    apart, others, _ = taught(peers, [images, images.copy()])
    for found, expected in zip(once, apart, strict=True):
        for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    for found, expected in zip(outputs, others, strict=True):
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)


class Counting(Centring):
    """Counts the batches that it has seen."""

    def build(self, shape) -> None:
        super().build(shape)
        self.seen = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)

    def call(self, inputs, training=None):
        if training:
            self.seen.assign_add(1)
        return super().call(inputs, training=training)


def test_a_count_belongs_to_the_statistics_and_moves_once(images):
    peer = first_normalises(lambda x: Counting()(x))
    _, _, normalising = taught([peer], [images])
    assert [int(v) for v in normalising.statistics if v.dtype == "int32"] == [1]
    random.seed(0)
    inputs = keras.Input((8, 8, 3))
    x = Counting()(inputs)
    outputs = [keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)) for _ in range(2)]
    shared = [
        keras.Model(inputs, {"features": out, "logits": keras.layers.Dense(5)(out)})
        for out in outputs
    ]
    _, _, normalising = taught(shared, [images, images + 1])
    mean, seen = normalising.statistics
    assert int(seen) == 1
    np.testing.assert_allclose(mean, 0.2 * (images.mean(axis=(0, 1, 2)) + 0.5), rtol=1e-4)


def test_an_update_leaves_what_is_the_averages_own():
    averages = [variable([1.0]), variable([2.0])]
    teacher.update(averages, [variable([5.0]), variable([6.0])], 0.5, own=averages[:1])
    np.testing.assert_array_equal(averages[0], [1.0])
    np.testing.assert_array_equal(averages[1], [4.0])


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
    normalising = teacher.Normalising(averages, peers)
    with normalising.told_to_train():
        outputs = normalising.teach(run, views)
    for average, view, output in zip(averages, views, outputs, strict=True):
        scale = np.sqrt(view.var(axis=(0, 1, 2)) + 1e-3)
        features = ((view - view.mean(axis=(0, 1, 2))) / scale).max(axis=(1, 2))
        np.testing.assert_allclose(output["features"], features, rtol=1e-4, atol=1e-4)
        kernel, bias = average.layers[-1].get_weights()
        np.testing.assert_allclose(output["logits"], features @ kernel + bias, rtol=1e-3, atol=1e-4)
