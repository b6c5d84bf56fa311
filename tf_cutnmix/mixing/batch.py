"""What a batch must be, and a mixing's settings, before anything is mixed."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

MIXED = ("images", "labels", "segmentation_masks")
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
    if "bounding_boxes" in batch:
        raise ValueError("mixing would leave 'bounding_boxes' wrong: take them out of the batch")
    mixed = {name: tf.convert_to_tensor(batch[name]) for name in MIXED if name in batch}
    images, labels = mixed["images"], mixed["labels"]
    if images.shape.rank not in (4, 5):
        raise ValueError(
            "images must be a batch [B, H, W, C] or views [B, n, H, W, C], the rank known. "
            f"Received: shape {images.shape}"
        )
    if images.shape.rank == 5 and "segmentation_masks" in mixed:
        raise ValueError(
            "views [B, n, H, W, C] cannot be mixed with segmentation_masks: each view would need "
            f"masks of its own. Received: images of shape {images.shape}"
        )
    masks = mixed.get("segmentation_masks")
    if masks is not None and not (
        masks.shape.rank in (3, 4) and masks.shape[:3].is_compatible_with(images.shape[:3])
    ):
        raise ValueError(
            "segmentation_masks must be [B, H, W] or [B, H, W, M], of the images' size. "
            f"Received: shape {masks.shape} for images {images.shape}"
        )
    if not labels.shape[:1].is_compatible_with(images.shape[:1]):
        raise ValueError(
            "labels must be as many as images. "
            f"Received: labels of shape {labels.shape} for images {images.shape}"
        )
    return {**batch, **mixed, "labels": soft_labels(labels, num_classes)}


def picture_names(batch: Mapping[str, tf.Tensor]) -> list[str]:
    """Which entries are mixed as images are."""
    return [name for name in MIXED if name in batch and name != "labels"]


def check_views(images: tf.Tensor, num_peers: int) -> None:
    """Raise `ValueError` for views `[B, n, H, W, C]` of another number of peers."""
    if images.shape.rank == 5 and images.shape[1] not in (None, num_peers):
        raise ValueError(
            f"views [B, n, H, W, C] must be num_peers={num_peers} for each sample. "
            f"Received: shape {images.shape}"
        )


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
    """Say what the first of some values `[N]` is that is not good, `[N]` bool, if there is one.

    Raises:
      ValueError: there is one, eagerly.
      tf.errors.InvalidArgumentError: likewise in a graph; XLA compiles no such check.
    """
    first = tf.argmin(tf.concat([tf.cast(good, tf.int32), [0]], axis=0))
    # Not an index into it: XLA would take the labels as known for that, and compile every batch.
    value = tf.gather(tf.concat([values, tf.zeros([1], values.dtype)], axis=0), first)
    if not tf.executing_eagerly():
        tf.debugging.Assert(tf.reduce_all(good), [f"{words}. Received:", value])
    elif first < len(good):
        raise ValueError(f"{words}. Received: {value}")


def weigh(labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Labels `[B, K]` float32 that count as much as `weights` `[B]` say, `weight * label`.

    A cross-entropy is linear in its labels, and so is mixing: mixed, these are the labels of
    mixed samples of which each part counts by its own weight.
    """
    return labels * tf.cast(weights, labels.dtype)[:, None]


def unweigh(weighted: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The labels `[B, K]` that weights `[B]` make `weighted`; zeros where a weight is 0."""
    return tf.math.divide_no_nan(weighted, weights[:, None])


def check_settings(alpha: float, num_classes: int | None, ratio_per: str) -> None:
    """Raise `ValueError` for settings of any mixing that are out of range."""
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be a number above 0. Received: alpha={alpha}")
    if num_classes is not None and (num_classes < 1 or num_classes != int(num_classes)):
        raise ValueError(f"num_classes must be 1 or more. Received: num_classes={num_classes}")
    if ratio_per not in ("sample", "batch"):
        raise ValueError(f"ratio_per must be 'sample' or 'batch'. Received: {ratio_per!r}")


def check_when(probability: float, until_step: int | None) -> None:
    """Raise `ValueError` for settings of when a mixing mixes that are out of range."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be from 0 to 1. Received: {probability}")
    if until_step is not None and until_step < 0:
        raise ValueError(f"until_step must be 0 or more, or None. Received: {until_step}")


def check_boxes(num_peers: int, regions: str) -> None:
    """Raise `ValueError` for settings of Cut^nMix's boxes that are out of range."""
    if num_peers < 1 or num_peers != int(num_peers):
        raise ValueError(f"num_peers must be 1 or more. Received: num_peers={num_peers}")
    if regions not in ("uniform", "spread"):
        raise ValueError(f"regions must be 'uniform' or 'spread'. Received: {regions!r}")
