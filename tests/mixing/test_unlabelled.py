"""Labelled images and others in one batch: which, how many of each, in which order."""

import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import join_unlabelled


def images_of(values: range) -> tf.data.Dataset:
    return tf.data.Dataset.range(values.start, values.stop).map(
        lambda value: tf.fill([2, 3, 1], tf.cast(value, tf.uint8))
    )


def labelled(labels: list) -> tf.data.Dataset:
    return tf.data.Dataset.zip(
        images_of(range(len(labels))), tf.data.Dataset.from_tensor_slices(labels)
    )


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("with_labels", [False, True])
def test_each_labelled_image_is_followed_by_others_which_come_again(one_hot, with_labels):
    classes = [2, 0, 1, 2, 1]
    others = images_of(range(100, 105))
    if with_labels:  # of any kind: they are not looked at
        others = tf.data.Dataset.zip(others, tf.data.Dataset.range(70, 99))
    own = labelled(np.eye(3)[classes] if one_hot else classes)
    joined = join_unlabelled(own, others, batch_size=2, num_classes=3, ratio=2)
    assert joined.element_spec == (
        tf.TensorSpec([6, 2, 3, 1], tf.uint8),
        tf.TensorSpec([6, 3], tf.float32),
    )
    images, labels = zip(*joined.as_numpy_iterator(), strict=True)
    shown = [batch[:, 1, 2, 0].tolist() for batch in images]
    assert shown == [[0, 100, 101, 1, 102, 103], [2, 104, 100, 3, 101, 102]]
    expected = np.zeros([2, 6, 3])
    expected[:, ::3] = np.eye(3)[classes[:4]].reshape(2, 2, 3)
    np.testing.assert_array_equal(labels, expected)


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(ValueError, match=r"must be 1 or more\. Received: 2 and 0"):
        join_unlabelled(labelled([0]), images_of(range(3)), batch_size=2, num_classes=3, ratio=0)
    joined = join_unlabelled(labelled([-1]), images_of(range(3)), batch_size=1, num_classes=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="from 0 to num_classes - 1 = 2"):
        list(joined)
