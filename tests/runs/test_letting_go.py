"""What TensorFlow would keep of a run in a process."""

import gc
import weakref

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import func_graph

from tf_cutnmix import data
from tf_cutnmix.runs import letting_go


def test_what_was_registered_is_forgotten_and_what_was_before_is_kept() -> None:
    @tf.custom_gradient
    def kept(x: tf.Tensor):
        return x, lambda upstream: 3 * upstream

    @tf.function
    def slope(x: tf.Tensor) -> tf.Tensor:
        return tf.gradients(kept(x), x)[0]

    before = slope.get_concrete_function(tf.TensorSpec([], tf.float32))

    def graphs() -> int:
        gc.collect()
        return sum(isinstance(thing, func_graph.FuncGraph) for thing in gc.get_objects())

    @tf.function
    def traced(x: tf.Tensor) -> tf.Tensor:
        y = tf.numpy_function(lambda value: value, [kept(x)], tf.float32)
        return tf.ensure_shape(y, [])

    count = graphs()
    with letting_go.forgotten():
        assert traced(tf.constant(2.0)) == 2
        del traced
    assert graphs() == count
    assert before(tf.constant(2.0)) == 3


def test_the_images_of_a_run_are_let_go() -> None:
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    images = data.Images(pixels, np.arange(4, dtype=np.int32), ("a", "b", "c", "d"))
    left = weakref.ref(pixels)
    with letting_go.forgotten():
        for batches in (data.shuffled_batches(images, 2, seed=0), data.ordered_batches(images, 2)):
            next(iter(batches))
        del pixels, images, batches
    gc.collect()
    assert left() is None
