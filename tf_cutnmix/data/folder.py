"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tf_cutnmix import files
from tf_cutnmix.data import by_pillow, decode, layout
from tf_cutnmix.data.images import Example, Source, prepare
from tf_cutnmix.data.splits import in_proportion, select
from tf_cutnmix.errors import RunError
from tf_cutnmix.escaping import composed

# So many for each thread are read before the first of them is needed: all lie in memory then.
_FILES_A_THREAD = 8
_Made = TypeVar("_Made")


def source(path: pathlib.Path, split: str, image_size: int) -> Source:
    """One split; of a slice of one, each class has its share.

    Raises:
      InputError: the folder is of neither kind.
    """
    found = layout.read(path)
    chosen = select(str(path), composed(split), found.splits)
    if "[" in split:
        # Of them as they are listed, by class, a slice would be the first classes.
        drawn = {name: _drawn(listed) for name, listed in found.splits.items()}
        chosen = sorted(select(str(path), composed(split), drawn), key=lambda one: one[::-1])
    paths, labels = [file for file, _ in chosen], [label for _, label in chosen]
    return Source(
        str(path),
        lambda: (
            Example(image, label, content)
            for (image, content), label in zip(
                _each(_reader(image_size), paths), labels, strict=True
            )
        ),
        len(paths),
        found.class_names,
        lambda i: str(paths[i]),
        lambda: [files.identity(file, f"{file.relative_to(path)} {k}") for file, k in chosen],
        found.notes,
        lambda: _broken(
            [file for part in found.splits.values() for file, _ in part], _reader(image_size)
        ),
    )


def _drawn(listed: Sequence[tuple[pathlib.Path, int]]) -> list[tuple[pathlib.Path, int]]:
    return [listed[position] for position in in_proportion([label for _, label in listed])]


def _broken(
    paths: Sequence[pathlib.Path], read: Callable[[pathlib.Path], Any]
) -> list[pathlib.Path]:
    """Those of some files that cannot be read."""

    def is_whole(file: pathlib.Path) -> bool:
        try:
            read(file)
        except (OSError, tf.errors.OpError, RunError):
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


def _reader(image_size: int) -> Callable[[pathlib.Path], tuple[np.ndarray, bytes]]:
    """Makes an image `[H, W, 3]` of a file, and a digest of it."""

    def read(file: pathlib.Path) -> tuple[np.ndarray, bytes]:
        content = file.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        return picture(content, image_size), digest

    return read


def picture(file: bytes, image_size: int = 0) -> np.ndarray:
    """The picture `[H, W, 3]` uint8 in a file of any kind, by Pillow where TensorFlow cannot.

    Raises:
      InputError: it is of a kind that is not taken.
      RunError: it is no whole picture, and Pillow says so.
      tf.errors.OpError: likewise, TensorFlow.
    """
    image = _decoder(image_size)(tf.constant(file)).numpy()
    return (
        image if image.size else np.asarray(prepare(np.asarray(by_pillow.read(file)), image_size))
    )


# Once for all splits: TensorFlow takes longer to make it ready than to read a small folder.
@functools.cache
def _decoder(image_size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes an image `[H, W, 3]` of a file; one without pixels where TensorFlow knows no such."""
    return tf.function(
        lambda file: tf.cond(
            tf.reduce_all(decode.size(file) > 0),
            lambda: prepare(_known(file), image_size),
            lambda: tf.zeros([0, image_size, 3] if image_size else [0, 0, 3], tf.uint8),
        ),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    ).get_concrete_function()


# Once for all sizes: its graph is large.
_known = tf.function(
    decode.decode_known, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)
