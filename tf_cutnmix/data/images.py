"""What every source ends as: all pixels of a split in one uint8 array."""

import hashlib
from typing import Any, NamedTuple, Protocol

import numpy as np
import psutil
import tensorflow as tf

from tf_cutnmix.errors import InputError

# Three channels as float32 before and after rounding, and as uint8.
_BYTES_PER_PIXEL = 27


class Pixels(Protocol):
    """What is indexed as an array of images `[N, H, W, 3]` uint8 is."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class Rows:
    """Some images of an array, which may be on disk; copied when they are asked for, no sooner.

    Args:
      array: `[M, H, W, 3]`, or rows of another.
      positions: `[N]`, of the rows, in their order.
    """

    def __init__(self, array: Pixels, positions: np.ndarray) -> None:
        self._array, self._positions = array, positions

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """That of an array of these rows."""
        return (len(self), *self._array.shape[1:])

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any, /) -> np.ndarray:
        """What NumPy would give."""
        rows, *rest = key if isinstance(key, tuple) else (key,)
        return np.asarray(self._array[(self._positions[rows], *rest)])

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return np.array(self[:], *args, **kwargs)


class Facts(NamedTuple):
    """What is known of each image once all of its pixels were read.

    Attributes:
      digests: `[N, 16]` uint8, equal for images that are equal to the byte, and for no others.
      sums: `[N, 3]` int64, of the pixels of each channel.
      squares: `[N, 3]` int64, of their squares.
    """

    digests: np.ndarray
    sums: np.ndarray
    squares: np.ndarray


class Images(NamedTuple):
    """A labelled set of images.

    Attributes:
      pixels: `[N, H, W, 3]` uint8; on disk where they would fill the memory, or in a cache.
      labels: `[N]` int32, the positions of the classes in `class_names`.
      class_names: at least two.
      notes: what a user is to know about them, a line each.
      facts: of each image, where they are known.
      contents: `[N, 16]` uint8, digests of the files that they were read from, if there are any.
    """

    pixels: Pixels
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    facts: Facts | None = None
    contents: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each class, `[K]`."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def select(self, positions: np.ndarray) -> "Images":
        """Some of the images, which are not copied."""
        return self._replace(
            pixels=Rows(self.pixels, positions),
            labels=self.labels[positions],
            facts=self.facts and Facts(*(values[positions] for values in self.facts)),
            contents=None if self.contents is None else self.contents[positions],
        )

    def with_facts(self) -> "Images":
        """The same images with their `facts`, for which all pixels are read if need be."""
        return self if self.facts else self._replace(facts=facts_of(self.pixels))

    def digests(self) -> list[bytes]:
        """Of each image some bytes that only images equal to the byte have in common."""
        return [row.tobytes() for row in self._known().digests]

    def fingerprints(self) -> np.ndarray:
        """`[N, 2]` uint32: of each image's file, or of its pixels where it has none, and its label.

        Other ways to decode the files have the same ones.
        """
        digests = self._known().digests if self.contents is None else self.contents
        first = np.ascontiguousarray(digests[:, :4]).view(np.uint32)
        return np.concatenate([first, self.labels[:, np.newaxis].astype(np.uint32)], axis=1)

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, the latter at least 1, by exact sums."""
        facts, (count, height, width, _) = self._known(), self.pixels.shape
        mean = facts.sums.sum(axis=0) / (count * height * width)
        squares = facts.squares.sum(axis=0) / (count * height * width)
        return mean.tolist(), np.maximum(np.sqrt(squares - np.square(mean)), 1.0).tolist()

    def _known(self) -> Facts:
        return self.facts or facts_of(self.pixels)


def facts_of(pixels: Pixels) -> Facts:
    """Of each image, one after the other: they may not be in memory."""
    count = len(pixels)
    digests, *channels = (np.empty((count, 16), np.uint8), *np.empty((2, count, 3), np.int64))
    facts = Facts(digests, *channels)
    for position in range(count):
        image = pixels[position]
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        facts.digests[position] = np.frombuffer(digest, np.uint8)
        # Products of matrices are the fastest sums, and float64 holds these numbers exactly.
        wide = image.reshape(-1, image.shape[-1]).astype(np.float64)
        ones = np.ones(len(wide))
        facts.sums[position], facts.squares[position] = ones @ wide, ones @ np.square(wide)
    return facts


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


def prepare(image: tf.Tensor | np.ndarray, image_size: int) -> tf.Tensor | np.ndarray:
    """One image of any number of channels as RGB, resized if asked."""
    image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image[..., :3]
    return resize(image, (image_size, image_size)) if image_size else image


def check_image_size(image_size: int) -> None:
    """Raise `InputError` if the memory does not take one image of this size while it is made."""
    needed, free = image_size**2 * _BYTES_PER_PIXEL, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"--image_size={image_size}: one image takes {needed / 2**30:.1f} GiB while it is "
            f"resized, and {free / 2**30:.1f} GiB are free: lower it"
        )
