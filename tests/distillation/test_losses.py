"""The losses, against SciPy and closed forms. Of methods they are tested in `test_methods`."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from tests.distillation.arrays import (
    COLUMNS,
    SAMPLES,
    entropies,
    gradient,
    random_distributions,
    random_features,
    random_logits,
    random_peers,
    seeds,
)
from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.methods import cutnmix

temperatures = st.floats(0.5, 8.0)
ALL = np.ones(SAMPLES, bool)
scales = st.sampled_from([1e-3, 1.0, 10.0, 1e3])


@given(seeds, scales)
def test_cross_entropy_is_that_of_scipy(seed, scale):
    labels, logits = random_distributions(seed), random_peers(seed, scale=scale)
    expected = entropies(labels, logits)
    found = losses.sample_cross_entropy(labels, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    mean = losses.cross_entropy(labels, logits[0], ALL)
    np.testing.assert_allclose(mean, np.mean(expected[0]), rtol=1e-5, atol=1e-6)
    assert mean == tf.reduce_mean(losses.sample_cross_entropy(labels, logits[0]))
    some = np.arange(SAMPLES) % 2 == 0
    mean = losses.cross_entropy(labels * some[:, None], logits[0], some)
    np.testing.assert_allclose(mean, np.mean(expected[0][some]), rtol=1e-5, atol=1e-6)
    assert losses.cross_entropy(0 * labels, logits[0], ~ALL) == 0


def test_sharpened_predictions_are_those_of_half_the_temperature():
    logits = random_logits(0)
    found = losses.sharpen(losses.soften(logits, 1.0))
    np.testing.assert_allclose(found, softmax(2 * np.float64(logits), axis=-1), rtol=2e-5)


def test_the_gradient_of_cross_entropy_is_prediction_minus_label():
    labels, logits = random_distributions(0), random_logits(1)
    _, found = gradient(lambda *both: losses.cross_entropy(*both, ALL), labels, logits)
    expected = (softmax(logits.astype(np.float64), axis=-1) - labels) / SAMPLES
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(seeds, scales, temperatures)
def test_distillation_is_the_divergence_of_scipy_times_the_squared_temperature(
    seed, scale, temperature
):
    target, logits = random_distributions(seed), random_logits(seed + 1, scale)
    log_student = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    # KL(q || p) = sum q log q - sum q log p; the first sum is rel_entr against 1.
    divergence = rel_entr(target.astype(np.float64), 1.0) - target * log_student
    expected = temperature**2 * divergence.sum(axis=-1).mean()
    found = losses.distillation(target, logits, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@given(seeds, temperatures)
def test_imitation_is_distillation_of_the_softened_target(seed, temperature):
    target, logits = random_logits(seed), random_logits(seed + 1)
    softened = softmax(target.astype(np.float64) / temperature, axis=-1)
    np.testing.assert_allclose(losses.soften(target, temperature), softened, rtol=1e-4, atol=1e-7)
    expected = losses.distillation(np.float32(softened), logits, temperature)
    found = losses.imitation(target, logits, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@given(seeds, temperatures)
def test_distillation_has_the_closed_form_gradient_and_its_target_none(seed, temperature):
    target, logits = random_distributions(seed), random_logits(seed + 1)
    of_target, found = gradient(lambda q, z: losses.distillation(q, z, temperature), target, logits)
    student = softmax(logits.astype(np.float64) / temperature, axis=-1)
    np.testing.assert_allclose(found, temperature * (student - target) / SAMPLES, atol=1e-5)
    assert of_target is None


def test_distillation_allows_a_target_with_zeros():
    target, logits = np.eye(COLUMNS, dtype=np.float32)[:SAMPLES], random_logits(0)
    _, found = gradient(lambda q, z: losses.distillation(q, z, 2.0), target, logits)
    log_predictions = log_softmax(logits.astype(np.float64) / 2, axis=-1)
    expected = -4 * np.diagonal(log_predictions).mean()
    np.testing.assert_allclose(losses.distillation(target, logits, 2.0), expected, rtol=1e-5)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize("stop_target", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1e4, 1e30])
def test_imitation_of_extreme_logits_is_finite_and_so_are_its_gradients(scale, stop_target):
    target, logits = random_logits(0, scale), random_logits(1, scale)

    def term(t, z):
        return losses.imitation(t, z, 0.7, stop_target=stop_target)

    assert np.isfinite(term(target, logits))
    of_target, found = gradient(term, target, logits)
    assert np.all(np.isfinite(found))
    assert of_target is None if stop_target else np.all(np.isfinite(of_target))


def test_imitation_of_extreme_logits_is_the_distance_of_the_surest_classes():
    target, logits = np.float32([[0, -1e4, -1e4]]), np.float32([[-3e3, 0, -1e4]])
    np.testing.assert_allclose(losses.imitation(target, logits, 2.0), 4 * 1.5e3, rtol=1e-6)


@given(seeds, temperatures)
def test_the_target_of_imitation_gets_the_closed_form_gradient_if_not_stopped(seed, temperature):
    target, logits = random_logits(seed), random_logits(seed + 1)
    found, _ = gradient(
        lambda t, z: losses.imitation(t, z, temperature, stop_target=False), target, logits
    )
    q = softmax(target.astype(np.float64) / temperature, axis=-1)
    ratio = np.log(q) - log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    mean = np.sum(q * ratio, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, temperature * q * (ratio - mean) / SAMPLES, atol=2e-4)


def test_weight_decay_is_half_the_rate_times_the_squared_length():
    kernel, bias = random_features(0), random_features(1, size=3)
    expected = 0.01 / 2 * (np.sum(np.float64(kernel) ** 2) + np.sum(np.float64(bias) ** 2))
    np.testing.assert_allclose(losses.weight_decay([kernel, bias], 0.01), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "term",
    [
        lambda half: losses.cross_entropy(random_distributions(0), half, ALL),
        lambda half: losses.distillation(losses.soften(tf.roll(half, 1, axis=0), 3.0), half, 3.0),
        lambda half: losses.imitation(tf.roll(half, 1, axis=0), half, 3.0),
        lambda half: cutnmix.feature_distance(half, tf.roll(half, 1, axis=0)),
    ],
    ids=["cross_entropy", "distillation", "imitation", "feature_distance"],
)
def test_terms_of_half_precision_inputs_are_computed_in_float32(term):
    for dtype in (tf.float16, tf.bfloat16):
        half = tf.cast(random_logits(0, scale=100), dtype)
        found = term(half)
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, term(tf.cast(half, tf.float32)))
