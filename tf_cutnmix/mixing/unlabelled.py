"""Labelled images and others in one batch."""

import functools
from typing import Any

import tensorflow as tf

from tf_cutnmix.mixing.batch import soft_labels


def join_unlabelled(
    labelled: tf.data.Dataset,
    unlabelled: tf.data.Dataset,
    *,
    batch_size: int,
    num_classes: int,
    ratio: int = 3,
) -> tf.data.Dataset:
    """Batches for `OnlineDistiller.fit`, in which each labelled image is followed by others.

    ```python
    dataset = join_unlabelled(labelled, unlabelled, batch_size=32, num_classes=10)
    model = OnlineDistiller(peers, CutNMix(2), Method("cutnmix", unlabelled=True))
    model.fit(dataset)  # 32 labelled images and 96 others a step
    ```

    A pass over the result is one over the labelled images, but for the last of them that fill no
    batch; the others are repeated as need be. Shuffle both before.

    Args:
      labelled: pairs of an image `[H, W, C]` and its label, a class number or `[K]`.
      unlabelled: images like these, or tuples of which nothing but the first, the image, is used.
      batch_size: labelled images in a batch, `B`.
      num_classes: `K`.
      ratio: unlabelled images for each labelled one.

    Returns:
      Pairs of images `[B (1 + ratio), H, W, C]` and labels `[B (1 + ratio), K]` float32, all zero
      where there is none.

    Raises:
      ValueError: the ratio or the batch size is below 1, or a label is none.
    """
    if min(batch_size, ratio) < 1:
        raise ValueError(
            f"batch_size and ratio must be 1 or more. Received: {batch_size} and {ratio}"
        )
    others = unlabelled.map(lambda image, *_: image).repeat()
    pairs = tf.data.Dataset.zip(
        labelled.batch(batch_size, drop_remainder=True),
        others.batch(batch_size * ratio, drop_remainder=True),
    )
    return pairs.map(functools.partial(interleave, num_classes=num_classes))


def interleave(
    labelled: tuple[tf.Tensor, tf.Tensor], others: tf.Tensor, num_classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch, as of `join_unlabelled`: behind each labelled image as many of the others.

    So they are in proportion in every part that a device has of a batch.

    Args:
      labelled: images `[B, H, W, C]`, B known, and their labels, integers `[B]` or `[B, K]`.
      others: `[B ratio, H, W, C]`.
      num_classes: `K`.
    """
    images, labels = labelled
    batch, *shape = images.shape
    behind = tf.reshape(others, [batch, -1, *shape])
    both = tf.concat([images[:, tf.newaxis], behind], axis=1)
    rows = soft_labels(labels, num_classes)[:, tf.newaxis]
    padded: Any = tf.pad(rows, [[0, 0], [0, behind.shape[1]], [0, 0]])
    return tf.reshape(both, [-1, *shape]), tf.reshape(padded, [-1, num_classes])
