"""The terms of the loss against SciPy in float64, and their gradients against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, rel_entr, softmax

from tf_cutnmix import losses

BATCH, CLASSES, FEATURES, PEERS = 5, 7, 6, 3

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


def random_peers(seed: int, peers: int = PEERS, scale: float = 3.0) -> np.ndarray:
    """Logits of several peers, each surer than the next of what the labels say."""
    generator = np.random.default_rng(seed)
    labels = random_distributions(seed + 1)
    noise = generator.normal(0, scale, (peers, BATCH, CLASSES))
    return (noise + scale * generator.uniform(0, 2, (peers, 1, 1)) * labels).astype(np.float32)


def hard_labels(seed: int) -> np.ndarray:
    return np.eye(CLASSES, dtype=np.float32)[np.random.default_rng(seed).integers(0, 3, BATCH)]


def entropies(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The cross-entropy of each sample."""
    return -np.sum(labels * log_softmax(logits.astype(np.float64), axis=-1), axis=-1)


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


@given(seeds, scales)
def test_the_cross_entropy_of_each_sample_of_each_peer_is_that_of_scipy(seed, scale):
    labels, logits = random_distributions(seed), random_peers(seed, scale=scale)
    found = losses.sample_cross_entropy(labels, logits)
    assert found.shape == (PEERS, BATCH)
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
    np.testing.assert_allclose(found, temperature * q * (ratio - mean) / BATCH, atol=2e-4)


@pytest.mark.parametrize("make_labels", [random_distributions, hard_labels])
def test_the_best_logits_are_those_of_the_least_cross_entropy_of_each_sample(make_labels):
    labels, logits = make_labels(0), random_peers(1)
    best = np.argmin(entropies(labels, logits), axis=0)
    assert len(set(best)) > 1
    expected = [logits[best[sample], sample] for sample in range(BATCH)]
    np.testing.assert_array_equal(losses.best_logits(labels, logits), expected)


def test_the_least_logits_of_hard_labels_are_those_of_the_paper():
    labels, logits = hard_labels(0), random_peers(1)
    classes = labels.argmax(axis=-1)
    centred = [z - z[np.arange(BATCH), classes][:, None] for z in logits]
    expected = np.minimum.reduce(centred)
    np.testing.assert_allclose(losses.least_logits(labels, logits), expected, rtol=1e-6)
    np.testing.assert_array_equal(expected[np.arange(BATCH), classes], 0)


@given(seeds)
def test_the_least_logits_are_at_least_as_sure_of_the_class_as_the_surest_peer(seed):
    labels, logits = hard_labels(seed), random_peers(seed)
    least = losses.least_logits(labels, logits).numpy()
    assert np.all(entropies(labels, least) <= entropies(labels, logits).min(axis=0) + 1e-5)


def test_the_least_logits_of_soft_labels_are_centred_at_the_labels_mean():
    labels, logits = random_distributions(0), random_peers(1)
    centred = logits - np.einsum("bk,nbk->nb", labels, logits)[..., None]
    found = losses.least_logits(labels, logits)
    np.testing.assert_allclose(found, centred.min(axis=0), rtol=1e-4, atol=1e-5)


@given(seeds, st.integers(2, 4), st.sampled_from([0.3, 3.0, 10.0]), st.booleans())
def test_the_mixed_logits_come_close_to_scipys_optimum_on_the_simplex(seed, peers, scale, hard):
    labels = hard_labels(seed) if hard else random_distributions(seed)
    logits = random_peers(seed, peers, scale)

    def loss(weights: np.ndarray) -> float:
        return entropies(labels, np.tensordot(weights, logits, axes=1)).mean()

    start = np.full(peers, 1 / peers)
    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    best = minimize(
        loss, start, method="SLSQP", bounds=[(0, 1)] * peers, constraints=simplex, tol=1e-10
    )
    found = entropies(labels, losses.mixed_logits(labels, logits).numpy()).mean()
    assert found <= loss(start) + 1e-5
    assert best.fun - 1e-5 <= found <= best.fun + 2e-3


def test_the_mixed_logits_of_like_peers_are_theirs():
    logits = np.repeat(random_logits(0)[None], PEERS, axis=0)
    found = losses.mixed_logits(random_distributions(1), logits)
    np.testing.assert_allclose(found, logits[0], rtol=1e-5)


def contrast_of(similarities: np.ndarray, classes: np.ndarray) -> float:
    """Supervised contrastive loss of hard labels, sample by sample and pair by pair."""
    total = 0.0
    for a in range(BATCH):
        rest = [b for b in range(BATCH) if b != a]
        normaliser = np.sum(np.exp(similarities[a, rest].astype(np.float64)))
        positives = [b for b in rest if classes[b] == classes[a]]
        for b in positives:
            total -= np.log(np.exp(np.float64(similarities[a, b])) / normaliser) / len(positives)
    return total / BATCH


@pytest.mark.parametrize("classes", [[0, 0, 0, 1, 1], [0, 0, 1, 2, 3], [0, 0, 0, 0, 0]])
def test_contrast_of_hard_labels_is_the_supervised_contrastive_loss(classes):
    labels = np.eye(CLASSES, dtype=np.float32)[classes]
    similarities = np.random.default_rng(0).normal(0, 5, (BATCH, BATCH)).astype(np.float32)
    found = losses.contrast(similarities, labels @ labels.T)
    np.testing.assert_allclose(found, contrast_of(similarities, np.array(classes)), rtol=1e-5)


def test_contrast_does_not_look_at_the_diagonal():
    similarities = np.random.default_rng(0).normal(0, 5, (BATCH, BATCH)).astype(np.float32)
    positives = random_distributions(1) @ random_distributions(1).T
    expected = losses.contrast(similarities, positives)
    other = 10 * np.eye(BATCH, dtype=np.float32)
    np.testing.assert_array_equal(losses.contrast(similarities + other, positives), expected)
    np.testing.assert_array_equal(losses.contrast(similarities, positives + other), expected)


@pytest.mark.parametrize("size", [1, BATCH])
def test_contrast_without_positives_is_zero_and_so_is_its_gradient(size):
    similarities = np.random.default_rng(0).normal(0, 5, (size, size)).astype(np.float32)
    positives = np.eye(size, dtype=np.float32)
    assert losses.contrast(similarities, positives) == 0.0
    found, _ = gradient(losses.contrast, similarities, positives)
    np.testing.assert_array_equal(found, np.zeros((size, size)))


def test_unit_is_of_length_one():
    features = random_features(0)
    np.testing.assert_allclose(losses.unit(features), unit(features), rtol=1e-5)


def every_term(labels, target, logits, features, other, step, peers, similarities):
    return (
        losses.cross_entropy(labels, logits),
        losses.sample_cross_entropy(labels, peers),
        losses.soften(logits, 3.0),
        losses.distillation(target, logits, 3.0),
        losses.imitation(logits[::-1], logits, 3.0),
        losses.imitation(logits[::-1], logits, 3.0, stop_target=False),
        losses.best_logits(labels, peers),
        losses.least_logits(labels, peers),
        losses.mixed_logits(labels, peers),
        losses.feature_distance(features, other),
        losses.contrast(similarities, tf.matmul(labels, labels, transpose_b=True)),
        losses.weight_decay([features], 0.01),
        losses.ramp(step, 80),
        losses.unit(features),
    )


def test_xla_agrees_with_eager_execution():
    inputs = [
        *(random_distributions(0), random_distributions(1), random_logits(2)),
        *(random_features(3), random_features(4), np.int64(30), random_peers(5)),
        np.random.default_rng(6).normal(0, 5, (BATCH, BATCH)).astype(np.float32),
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
        lambda half: losses.feature_distance(half, tf.roll(half, 1, axis=0)),
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
