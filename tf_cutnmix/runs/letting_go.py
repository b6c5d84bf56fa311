"""What TensorFlow would keep of a run for as long as the process lives."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.framework import ops


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """At the end of the context TensorFlow forgets what it registered within, in any thread.

    It offers no way to: each `tf.custom_gradient` that is traced, as every optimizer of Keras has
    one, holds its graph, and each `tf.numpy_function` the images that it hands out.
    """
    gradients, graph = ops.gradient_registry._registry, tf.compat.v1.get_default_graph()
    known, called = set(gradients), list(_called_from(graph))
    try:
        yield
    finally:
        for name in gradients.keys() - known:
            del gradients[name]
        _called_from(graph)[:] = called


def _called_from(graph: tf.Graph) -> list:
    return getattr(graph, "_py_funcs_used_in_graph", [])
