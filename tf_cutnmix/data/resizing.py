"""Images of any size as images of one: the same pixels in training as in exports."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Target(NamedTuple):
    """What images are resized to."""

    height: int
    width: int

    def __str__(self) -> str:
        square = self.height == self.width
        return str(self.width) if square else f"{self.width}x{self.height}"


def target(image_size: int | str) -> Target | None:
    """What `--image_size` says: pixels a side, or "<width>x<height>"; None for 0, as stored."""
    width, _, height = str(image_size).partition("x")
    return Target(int(height or width), int(width)) if int(width) else None


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resize uint8 `[..., H, W, C]` to `(height, width)`, anti-aliased, rounded back to uint8."""
    images = tf.convert_to_tensor(images)
    # TensorFlow itself skips this for a static size alone; an export takes images of any size.
    resized = tf.cond(
        tf.reduce_all(tf.shape(images)[-3:-1] == size),
        lambda: images,
        lambda: tf.cast(tf.round(tf.image.resize(images, size, antialias=True)), tf.uint8),
    )
    return tf.ensure_shape(resized, [*images.shape[:-3], *size, images.shape[-1]])


def prepare(image: tf.Tensor | np.ndarray, target: Target | None) -> tf.Tensor | np.ndarray:
    """One image of any number of channels as RGB, resized if asked."""
    image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image[..., :3]
    return resize(image, (target.height, target.width)) if target else image
