"""What every source ends as: all pixels of a split in one uint8 array; and how it gets there."""

import hashlib
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from tf_cutnmix.errors import InputError, RunError, first_line, listed


class Rows:
    """Rows of an array of images, which may be on disk; they are copied when indexed.

    Args:
      array: `[M, H, W, 3]`, or rows of another.
      positions: `[N]`, of the rows, in their order.
    """

    def __init__(self, array: "Pixels", positions: np.ndarray) -> None:
        self._array, self._positions = array, positions

    @property
    def shape(self) -> tuple[Any, ...]:
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


Pixels = np.ndarray | Rows


class Facts(NamedTuple):
    """What is known of each of some images once all pixels were read.

    Attributes:
      digests: `[N, 16]` uint8, equal for images that are equal to the byte, and for no others.
      sums: `[N, 3]` int64, of the pixels of each channel.
      squares: `[N, 3]` int64, of their squares.
    """

    digests: np.ndarray
    sums: np.ndarray
    squares: np.ndarray


class Images(NamedTuple):
    """A set of images, all labelled or none.

    Attributes:
      pixels: `[N, H, W, 3]` uint8, in memory or in a cache on disk.
      labels: `[N]` int32, the positions of the classes in `class_names`; -1 of an image without.
      class_names: at least two, where there are labels.
      notes: what a user is to know about them, a line each.
      facts: of each image, where all pixels were read.
      contents: `[N, 16]` uint8, digests of the files that they were read from, if there are any.
      name: what a user calls image i: its file, or its place in its split, `test[17]`.
    """

    pixels: Pixels
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    facts: Facts | None = None
    contents: np.ndarray | None = None
    name: Callable[[int], str] = str

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
            name=lambda i: self.name(positions[i]),
        )

    def with_facts(self) -> "Images":
        """The same images with their `facts`, for which all pixels are read if need be."""
        return self._replace(facts=self._known())

    def digests(self) -> list[bytes]:
        """For each image some bytes, the same for identical images and for no others."""
        return [row.tobytes() for row in self._known().digests]

    def fingerprints(self) -> np.ndarray:
        """`[N, 2]` uint32: of each image's file, or of its pixels where it has none, and its label.

        They do not depend on how the files are decoded.
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
    """The facts of images, one after the other: they may not be in memory."""
    count = len(pixels)
    facts = Facts(np.empty((count, 16), np.uint8), *np.empty((2, count, 3), np.int64))
    for position in range(count):
        image = pixels[position]
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        facts.digests[position] = np.frombuffer(digest, np.uint8)
        # Products of matrices are the fastest sums, and float64 holds these numbers exactly.
        wide = image.reshape(-1, image.shape[-1]).astype(np.float64)
        ones = np.ones(len(wide))
        facts.sums[position], facts.squares[position] = ones @ wide, ones @ np.square(wide)
    return facts


class Source(NamedTuple):
    """One split of a data set before it is read.

    Attributes:
      place: the name of its data set.
      examples: reads them, in the order of the split: an image `[H, W, 3]` uint8, its label, and
        16 bytes that only equal files have in common, none where it is in no file. Where one cannot
        be read, an OSError, a RunError or an error of TensorFlow says why.
      size: the number of examples.
      class_names: of all labels.
      name: what a user calls example i: its file, or its place in the split, `test[17]`.
      made_of: lines that differ where the images do: names, sizes and dates of files.
      notes: what a user is to know about the images, a line each.
      broken: finds the files that cannot be read, where the source can name them.
    """

    place: str
    examples: Callable[[], Iterable[tuple[np.ndarray, int, bytes]]]
    size: int
    class_names: tuple[str, ...]
    name: Callable[[int], str]
    made_of: Callable[[], list[str]]
    notes: tuple[str, ...] = ()
    broken: Callable[[], list[pathlib.Path]] = list


def collect(source: Source, allocate: Callable[[tuple[int, ...]], np.ndarray]) -> Images:
    """Put the images and labels of a source into arrays, in their order.

    Args:
      source: is read once.
      allocate: makes the uint8 array of the images, from its shape.

    Raises:
      InputError: an image cannot be read, or has another size than those before it.
    """
    labels, contents = np.empty(source.size, np.int64), bytearray()
    pixels: Any = None
    examples = iter(source.examples())
    for position in range(source.size):
        try:
            image, label, content = next(examples)
        except (OSError, tf.errors.OpError, RunError) as error:
            raise InputError(_unreadable(source, position, error)) from error
        if pixels is None:
            pixels = allocate((source.size, *image.shape))
        if image.shape != pixels.shape[1:]:
            (height, width), (before_height, before_width) = image.shape[:2], pixels.shape[1:3]
            raise InputError(
                f"{_called(source, position)} has {width}x{height} pixels and the images before it "
                f"{before_width}x{before_height}: pass --image_size to resize them all"
            )
        pixels[position], labels[position] = image, label
        contents += content
    digests = np.frombuffer(contents, np.uint8).reshape(source.size, -1) if contents else None
    return Images(
        pixels, labels, source.class_names, source.notes, contents=digests, name=source.name
    )


def _unreadable(source: Source, position: int, error: Exception) -> str:
    """The error for the first example that cannot be read, and others where they are known."""
    reason = "it is no whole image, repair or remove it"
    if isinstance(error, InputError):
        reason = str(error)
    elif isinstance(error, OSError):
        reason = error.strerror or first_line(error)
    elif isinstance(error, tf.errors.ResourceExhaustedError):
        reason = "the memory does not suffice, lower --image_size"
    elif isinstance(error, tf.errors.NotFoundError | tf.errors.PermissionDeniedError):
        reason = first_line(error)
    first = f"{_called(source, position)} cannot be read: {reason}"
    # One at a time they would cost a run each.
    if len(broken := source.broken()) < 2:
        return first
    named = listed(list(map(str, broken)))
    remedy = first if isinstance(error, InputError) else "repair or remove them"
    return f"{len(broken)} pictures of {source.place} cannot be read: {named}: {remedy}"


def _called(source: Source, position: int) -> str:
    """An example in an error, where its data set is not in its name."""
    name = source.name(position)
    return name if name.startswith(source.place) else f"{source.place}: {name}"


def in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array.

    Raises:
      InputError: it would take more than half of what memory is free.
    """
    size, free = math.prod(shape), psutil.virtual_memory().available
    if size > free // 2:
        raise InputError(
            f"the images take {size / 2**30:.1f} GiB, more than half of the {free / 2**30:.1f} GiB "
            "that are free: have them on disk with --cache_dir, lower --image_size or select fewer"
        )
    return np.empty(shape, np.uint8)
