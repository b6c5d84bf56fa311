"""The losses, against SciPy and closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from tests.distillation.arrays import (
    COLUMNS,
    PEERS,
    SAMPLES,
    entropies,
    gradient,
    random_distributions,
    random_features,
    random_logits,
    random_peers,
    seeds,
    unit,
)
from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.methods import cutnmix, kdcl, mcl

temperatures = st.floats(0.5, 8.0)
scales = st.sampled_from([1e-3, 1.0, 10.0, 1e3])


@given(seeds, scales)
def test_cross_entropy_is_that_of_scipy(seed, scale):
    labels, logits = random_distributions(seed), random_logits(seed + 1, scale)
    expected = -np.mean(np.sum(labels * log_softmax(logits.astype(np.float64), axis=-1), axis=-1))
    np.testing.assert_allclose(losses.cross_entropy(labels, logits), expected, rtol=1e-5)


def test_cross_entropy_of_hard_labels_is_the_negative_log_likelihood_of_the_class():
    classes, logits = np.array([0, 6, 3, 3, 1]), random_logits(0)
    labels = np.eye(COLUMNS, dtype=np.float32)[classes]
    likelihood = softmax(logits.astype(np.float64), axis=-1)[np.arange(SAMPLES), classes]
    expected = -np.log(likelihood).mean()
    np.testing.assert_allclose(losses.cross_entropy(labels, logits), expected, rtol=1e-5)


def test_the_gradient_of_cross_entropy_is_prediction_minus_label():
    labels, logits = random_distributions(0), random_logits(1)
    _, found = gradient(losses.cross_entropy, labels, logits)
    expected = (softmax(logits.astype(np.float64), axis=-1) - labels) / SAMPLES
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(seeds, temperatures)
def test_soften_is_the_softmax_at_a_temperature(seed, temperature):
    logits = random_logits(seed)
    expected = softmax(logits.astype(np.float64) / temperature, axis=-1)
    np.testing.assert_allclose(losses.soften(logits, temperature), expected, rtol=1e-4, atol=1e-7)


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
def test_distillation_towards_ones_own_prediction_is_zero(seed, temperature):
    logits = random_logits(seed)
    own = losses.soften(logits, temperature)
    np.testing.assert_allclose(losses.distillation(own, logits, temperature), 0.0, atol=1e-4)


def test_distillation_allows_a_target_with_zeros():
    target, logits = np.eye(COLUMNS, dtype=np.float32)[:SAMPLES], random_logits(0)
    _, found = gradient(lambda q, z: losses.distillation(q, z, 2.0), target, logits)
    expected = (
        4 * -log_softmax(logits.astype(np.float64) / 2, axis=-1)[range(SAMPLES), range(SAMPLES)]
    )
    np.testing.assert_allclose(losses.distillation(target, logits, 2.0), expected.mean(), rtol=1e-5)
    assert np.all(np.isfinite(found))


@given(seeds, temperatures)
def test_the_student_of_distillation_gets_the_closed_form_gradient(seed, temperature):
    target, logits = random_distributions(seed), random_logits(seed + 1)
    _, found = gradient(lambda q, z: losses.distillation(q, z, temperature), target, logits)
    student = softmax(logits.astype(np.float64) / temperature, axis=-1)
    np.testing.assert_allclose(found, temperature * (student - target) / SAMPLES, atol=1e-5)


def test_the_target_of_distillation_gets_no_gradient():
    target, logits = random_distributions(0), random_logits(1)
    found, _ = gradient(lambda q, z: losses.distillation(q, z, 3.0), target, logits)
    assert found is None


def test_weight_decay_is_half_the_rate_times_the_squared_length():
    kernel, bias = random_features(0), random_features(1, size=3)
    expected = 0.01 / 2 * (np.sum(np.float64(kernel) ** 2) + np.sum(np.float64(bias) ** 2))
    np.testing.assert_allclose(losses.weight_decay([kernel, bias], 0.01), expected, rtol=1e-6)


def test_the_gradient_of_weight_decay_is_rate_times_weight():
    kernel, bias = random_features(0), random_features(1, size=3)
    found = gradient(lambda *weights: losses.weight_decay(weights, 0.01), kernel, bias)
    np.testing.assert_allclose(found[0], 0.01 * kernel, rtol=1e-6)
    np.testing.assert_allclose(found[1], 0.01 * bias, rtol=1e-6)


@given(seeds, scales)
def test_the_cross_entropy_of_each_sample_of_each_peer_is_that_of_scipy(seed, scale):
    labels, logits = random_distributions(seed), random_peers(seed, scale=scale)
    found = losses.sample_cross_entropy(labels, logits)
    assert found.shape == (PEERS, SAMPLES)
    np.testing.assert_allclose(found, entropies(labels, logits), rtol=1e-5, atol=1e-6)


@given(seeds, temperatures)
def test_imitation_is_distillation_of_the_softened_target(seed, temperature):
    target, logits = random_logits(seed), random_logits(seed + 1)
    expected = losses.distillation(losses.soften(target, temperature), logits, temperature)
    found = losses.imitation(target, logits, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stop_target", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1e2, 1e4, 1e30])
def test_imitation_of_extreme_logits_is_finite_and_so_are_its_gradients(scale, stop_target):
    target, logits = random_logits(0, scale), random_logits(1, scale)

    def term(t, z):
        return losses.imitation(t, z, 0.7, stop_target=stop_target)

    assert np.isfinite(term(target, logits))
    for found in gradient(term, target, logits)[stop_target:]:
        assert np.all(np.isfinite(found))


def test_imitation_of_extreme_logits_is_the_distance_of_the_surest_classes():
    target, logits = np.float32([[0, -1e4, -1e4]]), np.float32([[-3e3, 0, -1e4]])
    np.testing.assert_allclose(losses.imitation(target, logits, 2.0), 4 * 1.5e3, rtol=1e-6)


def test_the_target_of_imitation_gets_no_gradient_if_it_is_stopped():
    found, _ = gradient(
        lambda t, z: losses.imitation(t, z, 3.0), random_logits(0), random_logits(1)
    )
    assert found is None


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


def test_unit_is_of_length_one():
    features = random_features(0)
    np.testing.assert_allclose(losses.unit(features), unit(features), rtol=1e-5)


def every_term(labels, target, logits, features, other, peers, similarities):
    return (
        losses.cross_entropy(labels, logits),
        losses.sample_cross_entropy(labels, peers),
        losses.soften(logits, 3.0),
        losses.distillation(target, logits, 3.0),
        losses.imitation(logits[::-1], logits, 3.0),
        losses.imitation(logits[::-1], logits, 3.0, stop_target=False),
        kdcl.best_logits(labels, peers),
        kdcl.least_logits(labels, peers),
        kdcl.mixed_logits(labels, peers),
        cutnmix.feature_distance(features, other),
        mcl.contrastive(similarities, tf.matmul(labels, labels, transpose_b=True)),
        losses.weight_decay([features], 0.01),
        losses.unit(features),
    )


def test_xla_agrees_with_eager_execution():
    inputs = [
        *(random_distributions(0), random_distributions(1), random_logits(2)),
        *(random_features(3), random_features(4), random_peers(5)),
        np.random.default_rng(6).normal(0, 5, (SAMPLES, SAMPLES)).astype(np.float32),
    ]
    inputs = [tf.constant(value) for value in inputs]
    compiled = tf.function(every_term, jit_compile=True)(*inputs)
    for found, expected in zip(compiled, every_term(*inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@pytest.mark.parametrize(
    "term",
    [
        lambda half: losses.cross_entropy(random_distributions(0), half),
        lambda half: losses.soften(half, 3.0),
        lambda half: losses.distillation(tf.constant(random_distributions(0)), half, 3.0),
        lambda half: cutnmix.feature_distance(half, tf.roll(half, 1, axis=0)),
        lambda half: losses.sample_cross_entropy(random_distributions(0), half),
        lambda half: losses.imitation(tf.roll(half, 1, axis=0), half, 3.0),
        lambda half: losses.imitation(tf.roll(half, 1, axis=0), half, 3.0, stop_target=False),
        losses.unit,
    ],
    ids=[
        *("cross_entropy", "soften", "distillation", "feature_distance"),
        *("sample_cross_entropy", "imitation", "imitation_not_stopped", "unit"),
    ],
)
def test_terms_of_half_precision_inputs_are_computed_in_float32(term, dtype):
    half = tf.cast(random_logits(0, scale=100), dtype)
    found = term(half)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, term(tf.cast(half, tf.float32)))
