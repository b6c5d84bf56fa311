"""What a run leaves behind in a process: nothing that grows."""

import gc
import pathlib

import psutil
import pytest
import tensorflow as tf
from tensorflow.python.framework import func_graph

from tf_cutnmix import Config, train_and_evaluate
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


@pytest.mark.slow
def test_runs_one_after_another_take_no_more_memory(tmp_path: pathlib.Path) -> None:
    """Of the process as the system sees it; what the library frees, glibc may keep a while."""
    sizes = []
    for _ in range(7):
        train_and_evaluate(
            Config(
                arch="tiny_networks:tiny",
                train_split="train[:120]",
                test_split="test[:50]",
                batch_size=16,
                epochs=1,
                num_peers=1,
                method="independent",
                export="",
                workdir=str(tmp_path / "run"),
                overwrite=True,
            )
        )
        gc.collect()
        sizes.append(psutil.Process().memory_info().rss)
    assert max(sizes[3:]) <= 1.05 * sizes[2]
