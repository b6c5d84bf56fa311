"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import os
import pathlib

import numpy as np
import tensorflow as tf

from tf_cutnmix.data import by_pillow, decode, layout
from tf_cutnmix.data.images import Images, collect, prepare
from tf_cutnmix.data.splits import select


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
    examples = examples.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    images = collect(
        examples.as_numpy_iterator(), len(files), found.class_names, lambda i: str(files[i][0])
    )
    return images._replace(notes=found.notes)


# Outside of a graph numpy_function would hand on the address of the bytes in place of them.
@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def picture(file: tf.Tensor) -> tf.Tensor:
    """The picture `[H, W, 3]` uint8 in a file of any kind, by Pillow where TensorFlow cannot."""
    return tf.cond(
        tf.reduce_all(decode.size(file) > 0),
        lambda: decode.decode(file),
        lambda: tf.ensure_shape(
            tf.numpy_function(
                lambda content: np.asarray(by_pillow.read(content)), [file], tf.uint8
            ),
            [None, None, 3],
        ),
    )
