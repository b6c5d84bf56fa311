"""What a batch must be, and a mixing's settings, before anything is mixed."""

from collections.abc import Mapping

import tensorflow as tf

from tf_cutnmix.mixing.labels import soft_labels

MIXED = ("images", "labels", "segmentation_masks")
WEIGHTS = "sample_weight"


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
