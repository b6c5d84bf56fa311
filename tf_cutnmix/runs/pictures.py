"""Images side by side, for people to look at."""

import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import OnlineDistiller

_SIDE = 96
_PICTURED = 8


def mixed_batch(model: OnlineDistiller, images: tf.Tensor, labels: tf.Tensor) -> np.ndarray:
    """The start of the first batch: a row of images, of their partners, of each peer's views.

    Args:
      model: with an augmentation.
      images: `[B, H, W, 3]` uint8, the first batch.
      labels: integers `[B]`.

    Returns:
      `[height, width, 3]` uint8, as of `contact_sheet`.
    """
    step = tf.constant(0, tf.int64)
    shown = model.make_views(images, labels, step)
    rows = [shown.unmixed[0], *shown.views]
    for draw in shown.draws[-1:]:
        rows.insert(1, tf.gather(rows[0], draw.partner))
    return contact_sheet(np.stack([row[:_PICTURED] for row in rows]))


def contact_sheet(images: np.ndarray) -> np.ndarray:
    """One picture of rows of images, each pixel enlarged so that small images can be seen.

    Args:
      images: `[rows, columns, H, W, 3]` uint8.

    Returns:
      `[height, width, 3]` uint8, white between the images.
    """
    scale = max(1, _SIDE // images.shape[2])
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    border = ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0))
    images = np.pad(images, border, constant_values=255)
    rows, columns, height, width, channels = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
