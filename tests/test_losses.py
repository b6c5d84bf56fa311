"""The terms of the loss against SciPy in float64, and their gradients against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from tf_cutnmix import losses

BATCH, CLASSES, FEATURES = 5, 7, 6

seeds = st.integers(0, 2**32 - 1)
temperatures = st.floats(0.5, 8.0)
scales = st.sampled_from([1e-3, 1.0, 10.0, 1e3])


def random_logits(seed: int, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (BATCH, CLASSES)).astype(np.float32)


def random_distributions(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.full(CLASSES, 0.5), BATCH).astype(np.float32)


def random_features(seed: int, size: int = FEATURES) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (BATCH, size)).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def gradient(function, *arguments: np.ndarray) -> list:
    """Of a scalar function, with respect to each argument."""
    tensors = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return tape.gradient(value, tensors)


@given(seeds, scales)
def test_cross_entropy_is_that_of_scipy(seed, scale):
    labels, logits = random_distributions(seed), random_logits(seed + 1, scale)
    expected = -np.mean(np.sum(labels * log_softmax(logits.astype(np.float64), axis=-1), axis=-1))
    np.testing.assert_allclose(losses.cross_entropy(labels, logits), expected, rtol=1e-5)


def test_cross_entropy_of_hard_labels_is_the_negative_log_likelihood_of_the_class():
    classes, logits = np.array([0, 6, 3, 3, 1]), random_logits(0)
    labels = np.eye(CLASSES, dtype=np.float32)[classes]
    likelihood = softmax(logits.astype(np.float64), axis=-1)[np.arange(BATCH), classes]
    expected = -np.log(likelihood).mean()
    np.testing.assert_allclose(losses.cross_entropy(labels, logits), expected, rtol=1e-5)


def test_the_gradient_of_cross_entropy_is_prediction_minus_label():
    labels, logits = random_distributions(0), random_logits(1)
    _, found = gradient(losses.cross_entropy, labels, logits)
    expected = (softmax(logits.astype(np.float64), axis=-1) - labels) / BATCH
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
    target, logits = np.eye(CLASSES, dtype=np.float32)[:BATCH], random_logits(0)
    _, found = gradient(lambda q, z: losses.distillation(q, z, 2.0), target, logits)
    expected = 4 * -log_softmax(logits.astype(np.float64) / 2, axis=-1)[range(BATCH), range(BATCH)]
    np.testing.assert_allclose(losses.distillation(target, logits, 2.0), expected.mean(), rtol=1e-5)
    assert np.all(np.isfinite(found))


@given(seeds, temperatures)
def test_the_student_of_distillation_gets_the_closed_form_gradient(seed, temperature):
    target, logits = random_distributions(seed), random_logits(seed + 1)
    _, found = gradient(lambda q, z: losses.distillation(q, z, temperature), target, logits)
    student = softmax(logits.astype(np.float64) / temperature, axis=-1)
    np.testing.assert_allclose(found, temperature * (student - target) / BATCH, atol=1e-5)


def test_the_target_of_distillation_gets_no_gradient():
    target, logits = random_distributions(0), random_logits(1)
    found, _ = gradient(lambda q, z: losses.distillation(q, z, 3.0), target, logits)
    assert found is None


@given(seeds)
def test_feature_distance_is_two_minus_twice_the_cosine(seed):
    features, target = random_features(seed), random_features(seed + 1)
    cosine = np.sum(unit(features) * unit(target), axis=-1)
    found = losses.feature_distance(features, target)
    np.testing.assert_allclose(found, np.mean(2 - 2 * cosine), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sign", "expected"), [(3.0, 0.0), (-0.5, 4.0)])
def test_feature_distance_reaches_from_zero_to_four_whatever_the_lengths(sign, expected):
    features = random_features(0)
    found = losses.feature_distance(features, np.float32(sign) * features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(seeds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_feature_distance_lies_between_zero_and_four(seed, own_length, target_length):
    features, target = own_length * random_features(seed), target_length * random_features(seed + 1)
    found = float(losses.feature_distance(features.astype("float32"), target.astype("float32")))
    assert -1e-6 <= found <= 4 + 1e-5


def test_the_gradient_of_feature_distance_is_orthogonal_to_the_features():
    features, target = random_features(0), random_features(1)
    found, _ = gradient(losses.feature_distance, features, target)
    own, other = unit(features), unit(target)
    cosine = np.sum(own * other, axis=-1, keepdims=True)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, -2 * (other - cosine * own) / length / BATCH, atol=1e-6)


def test_the_target_of_feature_distance_gets_no_gradient():
    _, found = gradient(losses.feature_distance, random_features(0), random_features(1))
    assert found is None


def test_features_of_length_zero_have_a_finite_gradient():
    zeros = np.zeros((BATCH, FEATURES), np.float32)
    np.testing.assert_allclose(losses.feature_distance(zeros, random_features(0)), 1.0, rtol=1e-6)
    found, _ = gradient(losses.feature_distance, zeros, random_features(0))
    assert np.all(np.isfinite(found))


def test_weight_decay_is_half_the_rate_times_the_squared_length():
    kernel, bias = random_features(0), random_features(1, size=3)
    expected = 0.01 / 2 * (np.sum(np.float64(kernel) ** 2) + np.sum(np.float64(bias) ** 2))
    np.testing.assert_allclose(losses.weight_decay([kernel, bias], 0.01), expected, rtol=1e-6)


def test_the_gradient_of_weight_decay_is_rate_times_weight():
    kernel, bias = random_features(0), random_features(1, size=3)
    found = gradient(lambda *weights: losses.weight_decay(weights, 0.01), kernel, bias)
    np.testing.assert_allclose(found[0], 0.01 * kernel, rtol=1e-6)
    np.testing.assert_allclose(found[1], 0.01 * bias, rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "ramp_steps", "expected"),
    [
        (0, 80, np.exp(-5)),
        (20, 80, np.exp(-5 * 0.75**2)),
        (40, 80, np.exp(-5 / 4)),
        (80, 80, 1.0),
        (81, 80, 1.0),
        (10**9, 80, 1.0),
        (0, 0, 1.0),
        (7, 0, 1.0),
    ],
)
def test_the_ramp_follows_its_formula(step, ramp_steps, expected):
    found = losses.ramp(tf.constant(step, tf.int64), ramp_steps)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(st.integers(1, 10**6), st.data())
def test_the_ramp_never_falls(ramp_steps, data):
    step = data.draw(st.integers(0, 2 * ramp_steps))
    here, next_one = (losses.ramp(tf.constant(s, tf.int64), ramp_steps) for s in (step, step + 1))
    assert 0 < float(here) <= float(next_one) <= 1


def every_term(labels, target, logits, features, other, step):
    return (
        losses.cross_entropy(labels, logits),
        losses.soften(logits, 3.0),
        losses.distillation(target, logits, 3.0),
        losses.feature_distance(features, other),
        losses.weight_decay([features], 0.01),
        losses.ramp(step, 80),
    )


def test_xla_agrees_with_eager_execution():
    inputs = (
        *(random_distributions(0), random_distributions(1), random_logits(2)),
        *(random_features(3), random_features(4), np.int64(30)),
    )
    compiled = tf.function(every_term, jit_compile=True)(*map(tf.constant, inputs))
    for found, expected in zip(compiled, every_term(*inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@pytest.mark.parametrize(
    "term",
    [
        lambda half: losses.cross_entropy(random_distributions(0), half),
        lambda half: losses.soften(half, 3.0),
        lambda half: losses.distillation(tf.constant(random_distributions(0)), half, 3.0),
        lambda half: losses.feature_distance(half, tf.roll(half, 1, axis=0)),
    ],
    ids=["cross_entropy", "soften", "distillation", "feature_distance"],
)
def test_terms_of_half_precision_inputs_are_computed_in_float32(term, dtype):
    half = tf.cast(random_logits(0, scale=100), dtype)
    found = term(half)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, term(tf.cast(half, tf.float32)))
