"""The batch before this one."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix.distillation.method import Forward
from tf_cutnmix.distillation.methods.dlb import LastBatch

BATCH = 4


def arrays_of(seed: int, dtype: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Images and soft labels."""
    random = np.random.default_rng(seed)
    images = tf.cast(random.integers(0, 256, (BATCH, 8, 8, 3)), dtype)
    return images, tf.constant(random.dirichlet(np.ones(CLASSES), BATCH), tf.float32)


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16"])
def test_the_last_batch_is_recalled_in_the_dtype_of_the_images(dtype: str) -> None:
    part = LastBatch([tiny_peer(), tiny_peer()], BATCH)
    first, second = (arrays_of(seed, dtype) for seed in (1, 2))
    for found, expected in zip(part.recall(*first, tf.constant(0)), first, strict=True):
        np.testing.assert_array_equal(found, expected)
    logits = np.random.default_rng(0).normal(size=(2, 2 * BATCH, CLASSES)).astype("f4")
    part.remember(*first, list(logits))
    images, labels = part.recall(*second, tf.constant(1))
    assert images.dtype == dtype
    np.testing.assert_array_equal(images, first[0])
    np.testing.assert_array_equal(labels, first[1])
    remembered = part(Forward(tf.constant(0), labels, [], []))
    np.testing.assert_array_equal(remembered, logits[:, BATCH:])
    assert part.trainable_variables == []
