"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tf_cutnmix import files
from tf_cutnmix.data import by_pillow, decode, layout
from tf_cutnmix.data.collecting import Source
from tf_cutnmix.data.images import prepare
from tf_cutnmix.data.splits import select
from tf_cutnmix.escaping import composed

# So many for each thread are read before the first of them is needed: all lie in memory then.
_FILES_A_THREAD = 8
_Made = TypeVar("_Made")


def source(path: pathlib.Path, split: str, image_size: int) -> Source:
    """One split.

    Raises:
      InputError: the folder is of neither kind.
    """
    found = layout.read(path)
    chosen = select(str(path), composed(split), found.splits)
    paths, labels = [file for file, _ in chosen], [label for _, label in chosen]
    return Source(
        str(path),
        lambda: zip(_each(_reader(image_size), paths), labels, strict=True),
        len(paths),
        found.class_names,
        lambda i: str(paths[i]),
        lambda: [files.identity(file, f"{file.relative_to(path)} {k}") for file, k in chosen],
        found.notes,
        lambda: _broken(
            [file for part in found.splits.values() for file, _ in part], _reader(image_size)
        ),
    )


def _broken(
    paths: Sequence[pathlib.Path], read: Callable[[pathlib.Path], np.ndarray]
) -> list[pathlib.Path]:
    """Those of some files that cannot be read."""

    def is_whole(file: pathlib.Path) -> bool:
        try:
            read(file)
        except (OSError, tf.errors.OpError):
            return False
        return True

    whole = _each(is_whole, paths)
    return [path for path, good in zip(paths, whole, strict=True) if not good]


def _each(call: Callable[[pathlib.Path], _Made], paths: Sequence[pathlib.Path]) -> Iterator[_Made]:
    """What is made of each file, in their order, by as many threads as TensorFlow has."""
    # One before all: each of several would make TensorFlow's graph ready.
    yield from map(call, paths[:1])
    workers = tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count() or 1
    # A run that is asked to end does not wait for its threads: a file system may not answer.
    with ThreadPool(workers) as threads:
        for start in range(1, len(paths), _FILES_A_THREAD * workers):
            yield from threads.imap(call, paths[start : start + _FILES_A_THREAD * workers])


# Once for all splits: TensorFlow takes longer to make it ready than to read a small folder.
@functools.cache
def _reader(image_size: int) -> Callable[[pathlib.Path], np.ndarray]:
    """Makes an image `[H, W, 3]` of a file."""
    image = tf.function(
        lambda content: prepare(picture(content), image_size),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    ).get_concrete_function()
    return lambda file: image(tf.constant(file.read_bytes())).numpy()


# Once for all sizes: its graph is large.
@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def picture(file: tf.Tensor) -> tf.Tensor:
    """The picture `[H, W, 3]` uint8 in a file of any kind, by Pillow where TensorFlow cannot."""
    return tf.cond(
        tf.reduce_all(decode.size(file) > 0),
        lambda: decode.decode_known(file),
        lambda: tf.ensure_shape(tf.numpy_function(_by_pillow, [file], tf.uint8), [None, None, 3]),
    )


def _by_pillow(file: bytes | np.ndarray) -> np.ndarray:
    # Outside of a graph TensorFlow hands on an array that holds the bytes.
    return np.asarray(by_pillow.read(file if isinstance(file, bytes) else file.item()))
