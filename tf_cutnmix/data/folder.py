"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tf_cutnmix.data import by_pillow, decode, layout
from tf_cutnmix.data.images import Images, collect, prepare
from tf_cutnmix.data.splits import select
from tf_cutnmix.errors import InputError, listed

_NAMED = 10


def load(path: pathlib.Path, split: str, image_size: int) -> Images:
    """Read one split.

    Raises:
      InputError: the folder is of neither kind, or a picture cannot be read.
    """
    found = layout.read(path)
    files = select(str(path), split, found.splits)
    paths = [os.fsencode(file) for file, _ in files]

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return prepare(picture(tf.io.read_file(file)), image_size), label

    examples = tf.data.Dataset.from_tensor_slices((paths, [label for _, label in files]))
    try:
        images = collect(examples, read, len(files), found.class_names, lambda i: str(files[i][0]))
    except InputError as error:
        if not isinstance(error.__cause__, tf.errors.OpError):
            raise
        # One at a time they would cost a run each.
        broken = _broken(file for split in found.splits.values() for file, _ in split)
        if len(broken) < 2:
            raise
        named = listed(list(map(str, broken)), _NAMED)
        raise InputError(
            f"{len(broken)} pictures of {path} cannot be read: {named}: repair or remove them"
        ) from error
    return images._replace(notes=found.notes)


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
        lambda: decode.decode(file),
        lambda: tf.ensure_shape(tf.numpy_function(_by_pillow, [file], tf.uint8), [None, None, 3]),
    )


def _by_pillow(file: bytes | np.ndarray) -> np.ndarray:
    # Outside of a graph TensorFlow hands on an array that holds the bytes.
    return np.asarray(by_pillow.read(file if isinstance(file, bytes) else file.item()))
