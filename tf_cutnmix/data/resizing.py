"""Images of any size as images of one: the same pixels in training as in exports."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# For images of another shape than the one that is wanted: all of it, squashed; the middle of it;
# all of it, black beside it.
RESIZINGS = ("squash", "crop", "pad")


class Target(NamedTuple):
    """What images are resized to, and by which of `RESIZINGS`."""

    height: int
    width: int
    how: str = "squash"

    def __str__(self) -> str:
        square = self.height == self.width
        sides = str(self.width) if square else f"{self.width}x{self.height}"
        return sides if self.how == "squash" else f"{sides}-{self.how}"


def target(image_size: int | str, how: str = "squash") -> Target | None:
    """What `--image_size` says: pixels a side, or "<width>x<height>"; None for 0, as stored."""
    width, _, height = str(image_size).partition("x")
    return Target(int(height or width), int(width), how) if int(width) else None


def resize(images: tf.Tensor, size: tuple[int, int], how: str = "squash") -> tf.Tensor:
    """Resize uint8 `[..., H, W, C]` to `(height, width)`, anti-aliased, rounded back to uint8."""
    images = tf.convert_to_tensor(images)
    # TensorFlow itself skips this for a static size alone; an export takes images of any size.
    resized = tf.cond(
        tf.reduce_all(tf.shape(images)[-3:-1] == size),
        lambda: images,
        lambda: tf.cast(tf.round(_filtered(images, size, how)), tf.uint8),
    )
    return tf.ensure_shape(resized, [*images.shape[:-3], *size, images.shape[-1]])


def prepare(image: tf.Tensor | np.ndarray, target: Target | None) -> tf.Tensor | np.ndarray:
    """One image of any number of channels as RGB, resized if asked."""
    image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image[..., :3]
    return resize(image, (target.height, target.width), target.how) if target else image


def placed(shape: tf.Tensor, size: tuple[int, int], how: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Where an image of a shape `[2]` lands on one of a size: its height and width there, `[2]`,
    and at which row and column it begins, `[2]`, below 0 where its ends are cut off. All int32.
    """
    if how == "squash":
        return tf.constant(size), tf.constant([0, 0])
    # In whole numbers, so that no runtime rounds otherwise.
    height, width = tf.unstack(tf.maximum(shape, 1))
    of_height = tf.stack([size[0], (2 * width * size[0] + height) // (2 * height)])
    of_width = tf.stack([(2 * height * size[1] + width) // (2 * width), size[1]])
    is_tall = height * size[1] > width * size[0]
    if how == "crop":
        inside = tf.where(is_tall, of_width, of_height)
        return inside, -((inside - size) // 2)
    inside = tf.maximum(tf.where(is_tall, of_height, of_width), 1)
    return inside, (size - inside) // 2


def _filtered(images: tf.Tensor, size: tuple[int, int], how: str) -> tf.Tensor:
    if how == "squash":
        return tf.image.resize(images, size, antialias=True)
    shape = tf.shape(images)[-3:-1]
    inside, start = placed(shape, size, how)
    # As tf.image.resize calls it, which begins at 0 and ends at the size.
    filtered = tf.raw_ops.ScaleAndTranslate(
        images=images if images.shape.rank == 4 else images[tf.newaxis],
        size=size,
        scale=tf.cast(inside, tf.float32) / tf.cast(shape, tf.float32),
        translation=tf.cast(start, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return filtered if images.shape.rank == 4 else filtered[0]
