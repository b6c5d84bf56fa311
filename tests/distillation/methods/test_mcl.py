"""The contrast of embeddings; that of soft labels is tested in `test_methods`."""

import numpy as np
import pytest

from tests.distillation.arrays import SAMPLES, gradient
from tf_cutnmix.distillation.methods import mcl


@pytest.mark.parametrize("size", [1, SAMPLES])
def test_contrast_without_positives_is_zero_and_so_is_its_gradient(size):
    similarities = np.random.default_rng(0).normal(0, 5, (size, size)).astype(np.float32)
    positives = np.eye(size, dtype=np.float32)
    assert mcl.contrastive(similarities, positives) == 0.0
    found, _ = gradient(mcl.contrastive, similarities, positives)
    np.testing.assert_array_equal(found, np.zeros((size, size)))
