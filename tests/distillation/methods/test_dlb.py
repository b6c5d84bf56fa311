"""The batch before this one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.methods.forwards import BATCH, forward_of, images_of, labels_of
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import Method, OnlineDistiller
from tf_cutnmix.distillation.methods.dlb import LastBatch


def logits_of(peers: int, count: int = BATCH, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return list(generator.normal(0, 1, (peers, count, CLASSES)).astype("float32"))


def test_at_the_first_step_the_batch_itself_takes_the_place_of_the_last(pair: list) -> None:
    part = LastBatch(pair, BATCH)
    images, labels = images_of(), labels_of()
    found = part.recall(tf.constant(images), tf.constant(labels), tf.constant(0))
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], labels)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_the_last_batch_is_recalled_in_the_dtype_of_the_images(pair: list, dtype: str) -> None:
    part = LastBatch(pair, BATCH)
    last = tf.cast(images_of(seed=1), dtype)
    part.remember(last, tf.constant(labels_of(seed=1)), logits_of(2))
    now = tf.cast(images_of(seed=2), dtype)
    images, labels = part.recall(now, tf.constant(labels_of(seed=2)), tf.constant(1))
    assert images.dtype == dtype
    np.testing.assert_array_equal(images, last)
    np.testing.assert_array_equal(labels, labels_of(seed=1))


def test_what_the_peers_said_of_the_newest_batch_is_remembered(pair: list) -> None:
    part = LastBatch(pair, BATCH)
    logits = logits_of(2, 2 * BATCH)
    part.remember(tf.constant(images_of()), tf.constant(labels_of()), logits)
    np.testing.assert_array_equal(part(forward_of([])), [z[BATCH:] for z in logits])
    assert part.trainable_variables == []


def test_a_batch_of_another_size_is_refused(pair: list) -> None:
    part = LastBatch(pair, BATCH)
    with pytest.raises(ValueError, match="batches of 4 images and cannot take one of 3"):
        part.recall(tf.constant(images_of(3)), tf.constant(labels_of(3)), tf.constant(1))


def test_a_step_of_dlb_trains_on_this_batch_and_the_last_one() -> None:
    model = OnlineDistiller([tiny_peer()], None, Method("dlb", batch_size=BATCH))
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    first, second = (images_of(seed=seed).astype("float32") for seed in (1, 2))
    labels = labels_of(2 * BATCH).argmax(axis=-1)
    seen = []
    network = model.run_peers.networks[0]
    model.run_peers.networks[0] = lambda view, training: (
        seen.append(view.numpy()) or network(view, training=training)
    )
    model.fit(np.concatenate([first, second]), labels, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_array_equal(seen[0], np.concatenate([first, first]))
    np.testing.assert_array_equal(seen[1], np.concatenate([first, second]))
