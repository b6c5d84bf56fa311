"""The moving average: its algebra, its momentum, and the networks that it keeps."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_cutnmix import teacher

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
