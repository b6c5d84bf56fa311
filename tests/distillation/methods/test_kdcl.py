"""KDCL's targets, and the weights that it learns on held-out images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from tests.distillation.arrays import (
    COLUMNS,
    PEERS,
    SAMPLES,
    entropies,
    random_distributions,
    random_logits,
    random_peers,
    seeds,
)
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix.distillation.methods import kdcl


def hard_labels(seed: int) -> np.ndarray:
    return np.eye(COLUMNS, dtype=np.float32)[np.random.default_rng(seed).integers(0, 3, SAMPLES)]


@given(seeds)
def test_the_least_logits_are_at_least_as_sure_of_the_class_as_the_surest_peer(seed):
    labels, logits = hard_labels(seed), random_peers(seed)
    least = kdcl.least_logits(labels, logits).numpy()
    assert np.all(entropies(labels, least) <= entropies(labels, logits).min(axis=0) + 1e-5)


def on_simplex(loss, count: int) -> np.ndarray:
    """SciPy's least of a function of weights that are a distribution."""
    return minimize(
        loss,
        np.full(count, 1 / count),
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        tol=1e-12,
    )


@given(seeds, st.integers(2, 4), st.sampled_from([0.3, 3.0, 10.0]), st.booleans())
def test_the_mixed_logits_come_close_to_scipys_optimum_on_the_simplex(seed, peers, scale, hard):
    labels = hard_labels(seed) if hard else random_distributions(seed)
    logits = random_peers(seed, peers, scale)

    def loss(weights: np.ndarray) -> float:
        return entropies(labels, np.tensordot(weights, logits, axes=1)).mean()

    best = on_simplex(loss, peers)
    found = entropies(labels, kdcl.mixed_logits(labels, logits).numpy()).mean()
    assert found <= loss(np.full(peers, 1 / peers)) + 1e-5
    assert best.fun - 1e-5 <= found <= best.fun + 2e-3 * max(1.0, best.fun)


def test_the_mixed_logits_of_like_peers_are_theirs():
    logits = np.repeat(random_logits(0)[None], PEERS, axis=0)
    found = kdcl.mixed_logits(random_distributions(1), logits)
    np.testing.assert_allclose(found, logits[0], rtol=1e-5)


def predictions(seed: int, peers: int) -> tuple[np.ndarray, np.ndarray]:
    """Of peers that err each in their own way, `[n, N, K]`, and the labels."""
    generator = np.random.default_rng(seed)
    labels = np.eye(CLASSES)[generator.integers(0, CLASSES, 50)]
    scores = generator.normal(0, 2, (peers, *labels.shape)) + 2 * labels
    exponents = np.exp(scores)
    return (exponents / exponents.sum(axis=-1, keepdims=True)).astype("float32"), labels


def learnt(
    probabilities: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    part = kdcl.HeldOutWeights([tiny_peer()] * len(probabilities))
    np.testing.assert_allclose(part.weight, np.full(len(probabilities), 1 / len(probabilities)))
    part.learn(probabilities, labels, np.ones(len(labels)) if counts is None else counts)
    return part.weight.numpy()


def test_a_held_out_image_of_weight_3_is_three_images():
    probabilities, labels = predictions(0, 3)
    counts = np.arange(50) % 4
    repeated = (np.repeat(probabilities, counts, axis=1), np.repeat(labels, counts, axis=0))
    found = learnt(probabilities, labels, counts)
    np.testing.assert_allclose(found, learnt(*repeated), rtol=1e-5)
    assert np.abs(found - learnt(probabilities, labels)).max() > 0.01


@pytest.mark.parametrize("count", [2, 4])
def test_held_out_weights_are_the_closed_form_and_scipys_optimum(count: int) -> None:
    probabilities, labels = predictions(0, count)
    errors = np.float64(probabilities) - labels
    covariance = np.einsum("ink,jnk->ij", errors, errors) / len(labels)
    inverse = np.linalg.inv(covariance) @ np.ones(count)
    expected = inverse / inverse.sum()
    assert expected.min() > 0
    found = learnt(probabilities, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    best = on_simplex(lambda w: np.sum(np.tensordot(w, errors, axes=1) ** 2), count)
    np.testing.assert_allclose(found, best.x, atol=2e-3)


@given(seeds, st.integers(2, 4))
def test_held_out_weights_are_a_distribution(seed: int, count: int) -> None:
    probabilities, labels = predictions(seed, count)
    # One much worse peer, like the first one but for more noise, wants a negative weight.
    probabilities[1] = np.clip(1.5 * probabilities[0] - 0.5 * labels, 0, 1)
    found = learnt(probabilities, labels)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-5)
    assert np.all(found >= 0)


@pytest.mark.parametrize("distance", [0.0, 1e-9, 1e-7])
def test_held_out_weights_of_like_peers_do_not_blow_up(distance: float) -> None:
    probabilities, labels = predictions(0, 1)
    generator = np.random.default_rng(1)
    alike = [probabilities[0] + distance * generator.normal(size=labels.shape) for _ in range(3)]
    np.testing.assert_allclose(learnt(np.stack(alike), labels), np.full(3, 1 / 3), atol=0.05)


def test_held_out_weights_of_peers_without_error_are_equal() -> None:
    _, labels = predictions(0, 1)
    found = learnt(np.stack([labels] * 4), labels)
    np.testing.assert_allclose(found, np.full(4, 0.25), rtol=1e-6)
