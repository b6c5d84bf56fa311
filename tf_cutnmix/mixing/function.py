"""Cut^nMix as a function."""

import tensorflow as tf

from tf_cutnmix.mixing.batch import check_boxes, check_settings, check_views, checked
from tf_cutnmix.mixing.labels import labels_by_area
from tf_cutnmix.mixing.pasting import paste, sides
from tf_cutnmix.mixing.sampling import sample


def cutnmix(
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    step: tf.Tensor | int,
    seed: int = 0,
    num_peers: int = 2,
    alpha: float = 1.0,
    num_classes: int | None = None,
    ratio_per: str = "sample",
    regions: str = "uniform",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut^nMix as a function; arguments and results as of the layer `CutNMix`.

    Returns:
      Images `[B, num_peers, H, W, C]` and labels `[B, K]` float32.
    """
    check_settings(alpha, num_classes, ratio_per)
    check_boxes(num_peers, regions)
    batch = checked({"images": images, "labels": labels}, num_classes)
    images, labels = batch["images"], batch["labels"]
    check_views(images, num_peers)
    height, width = sides(images)
    draw = sample(
        seed,
        step,
        (tf.shape(images)[0], height, width),
        alpha=alpha,
        num_peers=num_peers,
        ratio_per=ratio_per,
        regions=regions,
    )
    return paste(images, draw), labels_by_area(labels, draw, height, width)
