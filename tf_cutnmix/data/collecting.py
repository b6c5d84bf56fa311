"""From the examples of a source to arrays."""

import math
import pathlib
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from tf_cutnmix.data.images import Images
from tf_cutnmix.errors import InputError, RunError, first_line, listed

_NAMED = 10


class Example(NamedTuple):
    """What is read of one image.

    Attributes:
      image: `[H, W, 3]` uint8.
      label: of its class.
      content: 16 bytes that only equal files have in common; none where it is in no file.
    """

    image: np.ndarray
    label: int
    content: bytes = b""


class Source(NamedTuple):
    """One split of a data set before it is read.

    Attributes:
      place: what its data set is called.
      examples: reads them, in the order of the split. Where one cannot be read, an OSError, a
        RunError or an error of TensorFlow says why.
      size: the number of examples.
      class_names: of all labels.
      name: what an error calls example i.
      made_of: lines that differ where the images do: names, sizes and dates of files.
      notes: what a user is to know about the images, a line each.
      broken: the files that cannot be read, where that can be told of each.
    """

    place: str
    examples: Callable[[], Iterable[Example]]
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
      allocate: makes the array of the images, uint8, of a shape.

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
            raise InputError(
                f"{source.name(position)} has {_size(image)} pixels and the images before it "
                f"{_size(pixels[0])}: pass --image_size to resize them all"
            )
        pixels[position], labels[position] = image, label
        contents += content
    digests = np.frombuffer(contents, np.uint8).reshape(source.size, -1) if contents else None
    return Images(pixels, labels, source.class_names, source.notes, contents=digests)


def in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array, or one on disk where it would take more than half of what memory is free.

    Raises:
      InputError: neither takes it.
    """
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


def _unreadable(source: Source, position: int, error: Exception) -> str:
    """What is said of the first example that cannot be read, and of others where they are known."""
    first = f"{source.name(position)} cannot be read: {_reason(error)}"
    # One at a time they would cost a run each.
    if len(broken := source.broken()) < 2:
        return first
    named = listed(list(map(str, broken)), _NAMED)
    remedy = first if isinstance(error, InputError) else "repair or remove them"
    return f"{len(broken)} pictures of {source.place} cannot be read: {named}: {remedy}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or first_line(error)
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "the memory does not suffice, lower --image_size"
    if isinstance(error, (tf.errors.NotFoundError, tf.errors.PermissionDeniedError)):
        return first_line(error)
    return "it is no whole image, repair or remove it"


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
