"""How TensorFlow prepares the graph of a training step."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf


def called_as_traced(function: Callable) -> Callable:
    """A function whose graph TensorFlow runs as it was traced, where there is no GPU.

    Its optimizer of graphs (Grappler) goes over the whole graph again and again before the first
    call, which deep networks wait for (`python -m benchmarks start`). On a CPU no step was the
    faster for it; on a GPU, where this was not tried, it also chooses how images lie in memory.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _as_traced():
            return function(*args, **kwargs)

    return function if tf.config.list_physical_devices("GPU") else called


@contextlib.contextmanager
def _as_traced() -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
