"""What several tests of this wing rely on."""

import pytest
import tensorflow as tf

from tests.mixing.batches import NUM_CLASSES, photos
from tf_cutnmix import CutNMix


@pytest.fixture(scope="module")
def layer():
    return CutNMix(2, num_classes=NUM_CLASSES, seed=5)


@pytest.fixture(scope="module")
def dataset():
    """Two batches of four and one of two."""
    return tf.data.Dataset.from_tensor_slices(photos(10)).batch(4)
