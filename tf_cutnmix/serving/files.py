"""The files of a request as images: one that cannot be read leaves the others as they are."""

import tensorflow as tf

from tf_cutnmix.data.decode import decode
from tf_cutnmix.data.images import resize


def decode_each(
    files: tf.Tensor, size: tuple[int, int], max_pixels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode and resize files `[N]`, in a graph or eagerly, with TensorFlow's operations alone.

    Returns:
      Images `[N, *size, 3]` uint8, and which of them are valid, `[N]` bool: the files that
      `data.decode` reads, are whole, and state no more than `max_pixels`. The others are zeros.
    """
    count = tf.size(files, tf.int64)

    def attempt(position: tf.Tensor, file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return position, resize(decode(file, max_pixels), size)

    # An operation that fails ends its graph, but not a pipeline that ignores errors. The last row
    # is there so that there is one.
    decoded = tf.data.Dataset.from_tensor_slices(files).enumerate()
    decoded = decoded.map(attempt, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    last = tf.data.Dataset.from_tensors((count, tf.zeros([*size, 3], tf.uint8)))
    positions, rows = decoded.concatenate(last).batch(count + 1).get_single_element()
    valid = tf.scatter_nd(positions[:, tf.newaxis], tf.ones_like(positions), [count + 1])[:-1] > 0
    # Where no row is, the last one is taken.
    places = tf.range(tf.size(positions, tf.int64))
    order = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], places[-1]), positions[:, tf.newaxis], places
    )
    return tf.ensure_shape(tf.gather(rows, order[:-1]), [None, *size, 3]), valid
