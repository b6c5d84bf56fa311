"""What a batch to be mixed is: images or views, labels, weights of samples."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

WEIGHTS = "sample_weight"
CLASS_NUMBERS = "labels must be whole numbers from 0 to num_classes - 1 = {}"


def checked(batch: Mapping[str, tf.Tensor], num_classes: int | None) -> dict[str, tf.Tensor]:
    """The batch as tensors with labels `[B, K]` float32; see `Mixing` for what it must hold.

    Raises:
      ValueError: it is no such batch.
    """
    if not (isinstance(batch, Mapping) and {"images", "labels"} <= set(batch)):
        raise ValueError(
            "mixing needs a dictionary with 'images' and 'labels'. "
            f"Received: {sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__}"
        )
    for name in {"bounding_boxes", "segmentation_masks"} & set(batch):
        raise ValueError(f"mixing would leave {name!r} wrong: take them out of the batch")
    images, labels = (tf.convert_to_tensor(batch[name]) for name in ("images", "labels"))
    received = f"Received: images of shape {images.shape}"
    if images.shape.rank not in (4, 5):
        raise ValueError(
            f"images must be [B, H, W, C] or views [B, n, H, W, C], the rank known. {received}"
        )
    if not labels.shape[:1].is_compatible_with(images.shape[:1]):
        raise ValueError(f"labels must be as many as images. {received}, labels of {labels.shape}")
    return {**batch, "images": images, "labels": soft_labels(labels, num_classes)}


def soft_labels(labels: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    """Labels `[B, K]` float32, from one-hot or soft ones or, given `num_classes`, integers `[B]`.

    Raises:
      ValueError: they are no such labels.
      ValueError, in a graph tf.errors.InvalidArgumentError: a class number is out of range, or a
        soft label not finite. XLA compiles no such check: there, what is no class has NaN for a
        label.
    """
    received = f"Received: {labels.dtype.name} labels of shape {labels.shape}"
    if labels.shape.rank == 1 and labels.dtype.is_integer:
        if num_classes is None:
            raise ValueError(f"integer labels need num_classes. {received}")
        # A float64 keeps the order of whole numbers of any dtype; an int64 has not all of them.
        numbers = tf.cast(labels, tf.float64)
        in_range = (numbers >= 0) & (numbers < num_classes)
        require(in_range, CLASS_NUMBERS.format(num_classes - 1), labels)
        one_hot = tf.one_hot(tf.cast(labels, tf.int32), num_classes)
        return tf.where(in_range[:, None], one_hot, np.nan)
    if labels.shape.rank != 2 or labels.dtype in (tf.bool, tf.string):
        raise ValueError(
            "labels must be one-hot or soft [B, K], or integers [B] with num_classes given. "
            + received
        )
    if labels.shape[1] == 1 and num_classes != 1:
        raise ValueError(f"labels [B, 1] hold one class: drop the last axis. {received}")
    if num_classes is not None and labels.shape[1] not in (None, num_classes):
        raise ValueError(f"labels must have num_classes={num_classes} columns. {received}")
    labels = tf.cast(labels, tf.float32)
    flat = tf.reshape(labels, [-1])
    require(tf.math.is_finite(flat), "labels must be finite numbers", flat)
    return labels


def require(good: tf.Tensor, words: str, values: tf.Tensor) -> None:
    """Check that all of some values `[N]` are good, `[N]` bool; the error names the first other.

    Raises:
      ValueError: one is not, eagerly.
      tf.errors.InvalidArgumentError: likewise in a graph; XLA compiles no such check.
    """
    first = tf.argmin(tf.concat([tf.cast(good, tf.int32), [0]], axis=0))
    # Not an index into it: XLA would take the labels as known for that, and compile every batch.
    value = tf.gather(tf.concat([values, tf.zeros([1], values.dtype)], axis=0), first)
    if not tf.executing_eagerly():
        tf.debugging.Assert(tf.reduce_all(good), [f"{words}. Received:", value])
    elif first < len(good):
        raise ValueError(f"{words}. Received: {value}")


def has_label(labels: tf.Tensor) -> tf.Tensor:
    """Of each sample whether it has a label, `[B]` bool: its row of `[B, K]` is not all zero."""
    return tf.reduce_any(tf.not_equal(labels, 0), axis=-1)


def weigh(labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """`weight * label`, of labels `[B, K]` float32 and the weights `[B]` of their samples.

    A cross-entropy is linear in its labels, and so is mixing: mixed, these are the labels of
    mixed samples of which each part counts by its own weight.
    """
    return labels * tf.cast(weights, labels.dtype)[:, None]


def dimensions(images: tf.Tensor) -> list[tf.Tensor | int]:
    """The shape, with numbers where they are known."""
    dynamic = tf.shape(images)
    return [dynamic[i] if size is None else size for i, size in enumerate(images.shape)]


def sides(images: tf.Tensor) -> tuple[tf.Tensor | int, tf.Tensor | int]:
    """Height and width of images `[B, H, W, C]` or views `[B, n, H, W, C]`."""
    height, width = dimensions(images)[-3:-1]
    return height, width
