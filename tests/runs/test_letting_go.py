"""What TensorFlow would keep of a run in a process."""

import gc

import tensorflow as tf
from tensorflow.python.framework import func_graph

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

    def trace() -> None:
        @tf.function
        def traced(x: tf.Tensor) -> tf.Tensor:
            y = tf.numpy_function(lambda value: value, [kept(x)], tf.float32)
            return tf.ensure_shape(y, [])

        assert traced(tf.constant(2.0)) == 2

    count = graphs()
    with letting_go.forgotten():
        trace()
    assert graphs() == count
    assert before(tf.constant(2.0)) == 3
    trace()
    assert graphs() == count + 1  # So TensorFlow keeps it otherwise.
