"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tf_cutnmix import files
from tf_cutnmix.data import by_pillow, decode, layout
from tf_cutnmix.data.collecting import Source
from tf_cutnmix.data.images import prepare
from tf_cutnmix.data.splits import select


def source(path: pathlib.Path, split: str, image_size: int) -> Source:
    """One split.

    Raises:
      InputError: the folder is of neither kind.
    """
    found = layout.read(path)
    chosen = select(str(path), split, found.splits)
    paths, labels = [file for file, _ in chosen], [label for _, label in chosen]

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return prepare(picture(tf.io.read_file(file)), image_size), label

    return Source(
        str(path),
        tf.data.Dataset.from_tensor_slices(([os.fsencode(file) for file in paths], labels)),
        read,
        len(paths),
        found.class_names,
        lambda i: str(paths[i]),
        lambda: [files.identity(file, f"{file.relative_to(path)} {k}") for file, k in chosen],
        found.notes,
        lambda: _broken(file for part in found.splits.values() for file, _ in part),
    )


def _broken(files: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Those of some files that are no whole pictures."""
    paths = {os.fsencode(file): file for file in files}
    sizes = tf.data.Dataset.from_tensor_slices(list(paths)).map(
        lambda path: (path, tf.size(picture(tf.io.read_file(path)))),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    for whole, _ in sizes.ignore_errors().as_numpy_iterator():
        del paths[whole]
    return list(paths.values())


# Once for all splits: its graph is large.
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
