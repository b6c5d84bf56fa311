"""What every source ends as: all pixels of a split in one uint8 array."""

import math
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from tf_cutnmix.errors import InputError, first_line

# Three channels as float32 before and after rounding, and as uint8.
_BYTES_PER_PIXEL = 27


class Images(NamedTuple):
    """A labelled set of images.

    Attributes:
      pixels: `[N, H, W, 3]` uint8; memory-mapped from disk where it would fill the memory.
      labels: `[N]` int32, the positions of the classes in `class_names`.
      class_names: at least two.
      notes: what a user is to know about them, a line each.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each class, `[K]`."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def select(self, positions: np.ndarray) -> "Images":
        """Some of the images, as a copy."""
        pixels = _allocate((len(positions), *self.pixels.shape[1:]))
        # mode="clip" fills the array in place; the default would first make it in memory.
        np.take(self.pixels, positions, axis=0, out=pixels, mode="clip")
        return self._replace(pixels=pixels, labels=self.labels[positions])


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


def prepare(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """One image of any number of channels as RGB, resized if asked."""
    image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image[..., :3]
    return resize(image, (image_size, image_size)) if image_size else image


def collect(
    examples: tf.data.Dataset,
    read: Callable[..., tuple[tf.Tensor, tf.Tensor]],
    count: int,
    class_names: tuple[str, ...],
    name: Callable[[int], str],
) -> Images:
    """Put the images and labels that `read` makes of examples into arrays, in their order.

    `name(i)` is what an error calls example i.
    """
    made = examples.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    ready = made.as_numpy_iterator()
    labels = np.empty(count, np.int32)
    pixels: Any = None
    position = 0
    try:
        for position, (image, label) in enumerate(ready):
            if pixels is None:
                pixels = _allocate((count, *image.shape))
            if image.shape != pixels.shape[1:]:
                raise InputError(
                    f"{name(position)} has {_size(image)} pixels and the images before it "
                    f"{_size(pixels[0])}: pass --image_size to resize them all"
                )
            pixels[position], labels[position] = image, label
    except tf.errors.OpError as error:
        broken = position if pixels is None else position + 1
        raise InputError(f"{name(broken)} cannot be read: {_reason(error)}") from error
    return Images(pixels, labels, class_names)


def check_image_size(image_size: int) -> None:
    """Raise `InputError` if the memory does not take one image of this size while it is made."""
    needed, free = image_size**2 * _BYTES_PER_PIXEL, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"--image_size={image_size}: one image takes {needed / 2**30:.1f} GiB while it is "
            f"resized, and {free / 2**30:.1f} GiB are free: lower it"
        )


def _reason(error: tf.errors.OpError) -> str:
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "the memory does not suffice, lower --image_size"
    if isinstance(error, (tf.errors.NotFoundError, tf.errors.PermissionDeniedError)):
        return first_line(error)
    return "it is no whole image, repair or remove it"


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """An array in memory, or on disk where it would take more than half of what is free."""
    size = math.prod(shape)
    if size <= psutil.virtual_memory().available // 2:
        return np.empty(shape, np.uint8)
    free = psutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise InputError(
            f"the images take {size / 2**30:.1f} GiB, more than half of the free memory and more "
            f"than {tempfile.gettempdir()} has: lower --image_size or select fewer images"
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, mode="w+", shape=shape)
