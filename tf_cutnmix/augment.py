"""Random crops and mirror images of whole batches, inside XLA or out of it."""

from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix import draws


def shift(images: tf.Tensor, offsets: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Move each image by whole pixels, zeros coming in, and mirror it if asked.

    Args:
      images: `[B, H, W, C]`, any dtype.
      offsets: `[B, 2]` int32, how many pixels the window moves down and to the right.
      mirrored: `[B]` bool.

    Returns:
      Images of the same shape and dtype. Mirroring comes after moving.
    """
    height, width = images.shape[1:3]
    rows = tf.range(height) + offsets[:, :1]
    across = tf.range(width)
    columns = tf.where(mirrored[:, None], width - 1 - across, across) + offsets[:, 1:]
    seen = _inside(rows, height)[:, :, None, None] & _inside(columns, width)[:, None, :, None]
    moved = tf.gather(images, tf.clip_by_value(rows, 0, height - 1), axis=1, batch_dims=1)
    moved = tf.gather(moved, tf.clip_by_value(columns, 0, width - 1), axis=2, batch_dims=1)
    return tf.where(seen, moved, tf.zeros([], images.dtype))


def _inside(positions: tf.Tensor, size: int) -> tf.Tensor:
    return (positions >= 0) & (positions < size)


@keras.saving.register_keras_serializable("tf_cutnmix")
class CropAndFlip(draws.SteppedLayer):
    """Random crops of the zero-padded image, then mirror images of one in two (He et al. 2015).

    Args:
      crop: padding of each side as a part of it, in [0, 1): 0.125 is 4 pixels of 32.
      flip: whether to mirror.
      seed: draws are a function of (seed, step).

    Call it with images `[B, H, W, C]` of any dtype, which they keep, and of known H and W.
    """

    def __init__(
        self, crop: float = 0.125, flip: bool = True, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        if not 0 <= crop < 1:
            raise ValueError(f"crop must be at least 0 and below 1. Received: crop={crop}")
        self.crop = crop
        self.flip = flip

    def call(
        self, images: tf.Tensor, training: bool = True, step: tf.Tensor | int | None = None
    ) -> tf.Tensor:
        if not training:
            return images
        step = self.next_step(step)
        batch = tf.shape(images)[0]
        padding = tf.constant([round(self.crop * side) for side in images.shape[1:3]])
        crop_key = draws.key(self.seed, step, draws.Stream.CROP)
        offsets = draws.integers(crop_key, [batch, 2], 2 * padding + 1) - padding
        flip_key = draws.key(self.seed, step, draws.Stream.FLIP)
        mirrored = tf.equal(draws.integers(flip_key, [batch], 2), 0) & self.flip
        return shift(images, offsets, mirrored)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "crop": self.crop, "flip": self.flip}
