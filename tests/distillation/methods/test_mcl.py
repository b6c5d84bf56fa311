"""The contrast of embeddings."""

import numpy as np
import pytest

from tests.distillation.arrays import (
    COLUMNS,
    SAMPLES,
    gradient,
    random_distributions,
)
from tf_cutnmix.distillation.methods import mcl


def contrast_of(similarities: np.ndarray, classes: np.ndarray) -> float:
    """Supervised contrastive loss of hard labels, sample by sample and pair by pair."""
    total = 0.0
    for a in range(SAMPLES):
        rest = [b for b in range(SAMPLES) if b != a]
        normaliser = np.sum(np.exp(similarities[a, rest].astype(np.float64)))
        positives = [b for b in rest if classes[b] == classes[a]]
        for b in positives:
            total -= np.log(np.exp(np.float64(similarities[a, b])) / normaliser) / len(positives)
    return total / SAMPLES


@pytest.mark.parametrize("classes", [[0, 0, 0, 1, 1], [0, 0, 1, 2, 3], [0, 0, 0, 0, 0]])
def test_contrast_of_hard_labels_is_the_supervised_contrastive_loss(classes):
    labels = np.eye(COLUMNS, dtype=np.float32)[classes]
    similarities = np.random.default_rng(0).normal(0, 5, (SAMPLES, SAMPLES)).astype(np.float32)
    found = mcl.contrastive(similarities, labels @ labels.T)
    np.testing.assert_allclose(found, contrast_of(similarities, np.array(classes)), rtol=1e-5)


def test_contrast_does_not_look_at_the_diagonal():
    similarities = np.random.default_rng(0).normal(0, 5, (SAMPLES, SAMPLES)).astype(np.float32)
    positives = random_distributions(1) @ random_distributions(1).T
    expected = mcl.contrastive(similarities, positives)
    other = 10 * np.eye(SAMPLES, dtype=np.float32)
    np.testing.assert_array_equal(mcl.contrastive(similarities + other, positives), expected)
    np.testing.assert_array_equal(mcl.contrastive(similarities, positives + other), expected)


@pytest.mark.parametrize("size", [1, SAMPLES])
def test_contrast_without_positives_is_zero_and_so_is_its_gradient(size):
    similarities = np.random.default_rng(0).normal(0, 5, (size, size)).astype(np.float32)
    positives = np.eye(size, dtype=np.float32)
    assert mcl.contrastive(similarities, positives) == 0.0
    found, _ = gradient(mcl.contrastive, similarities, positives)
    np.testing.assert_array_equal(found, np.zeros((size, size)))
