"""What every layer of the package must withstand: Keras, XLA and mixed precision."""

import pathlib
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Arrays = np.ndarray | dict[str, np.ndarray]


def check_layer(
    layer: keras.layers.Layer, inputs: Arrays, folder: pathlib.Path, rounded: Collection[str] = ()
) -> None:
    """Run all checks on a layer of (seed, step) and one batch of inputs.

    A compiler may round the outputs in `rounded` in its way; all else is equal bit for bit.
    """
    check_config(layer, inputs)
    check_saving(layer, inputs, folder / "model.keras")
    check_compiling(layer, inputs, rounded)
    check_mixed_precision(layer, inputs)


def check_config(layer: keras.layers.Layer, inputs: Arrays) -> None:
    """A layer made from another's serialised config is the same function of the step."""
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    assert_same(at_step(copy, 5)(inputs), at_step(layer, 5)(inputs))


def check_saving(layer: keras.layers.Layer, inputs: Arrays, path: pathlib.Path) -> None:
    """A functional model goes on after saving where it was, and predicts without drawing."""
    copy = type(layer).from_config(layer.get_config())
    first, second = at_step(layer, 0)(inputs), at_step(layer, 1)(inputs)
    named = inputs.items() if isinstance(inputs, dict) else [(None, inputs)]
    symbols = {name: keras.Input(x.shape[1:], None, x.dtype.name, name=name) for name, x in named}
    symbols = symbols if isinstance(inputs, dict) else symbols[None]
    model = keras.Model(symbols, copy(symbols))
    assert_same(model(inputs, training=True), first)
    model.save(path)
    loaded = keras.models.load_model(path)
    assert_same(loaded(inputs, training=False), layer(inputs, training=False))
    assert_same(loaded(inputs, training=True), second)


def check_compiling(layer: keras.layers.Layer, inputs: Arrays, rounded: Collection[str]) -> None:
    """Eager execution, a graph and XLA agree on a step that exceeds 32 bits."""
    expected, call = at_step(layer, 2**40)(inputs), at_step(layer, tf.constant(2**40, tf.int64))
    for jit_compile in (False, True):
        assert_same(tf.function(call, jit_compile=jit_compile)(inputs), expected, rounded)


def check_mixed_precision(layer: keras.layers.Layer, inputs: Arrays) -> None:
    """A policy of lower precision changes neither dtypes nor values."""
    copy = type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    assert copy.compute_dtype == "bfloat16"
    assert_same(at_step(copy, 3)(inputs), at_step(layer, 3)(inputs))


def at_step(layer: keras.layers.Layer, step: Any) -> Callable[[Any], Any]:
    return lambda inputs: layer(inputs, training=True, step=step)


def drawn(draw: Callable[[tf.Tensor], Any], steps: int, dtypes: Any) -> Any:
    """What is drawn at each of the first steps, stacked, as NumPy arrays; traced once."""

    @tf.function
    def at_all() -> Any:
        each = tf.range(steps, dtype=tf.int64)
        return tf.map_fn(draw, each, fn_output_signature=dtypes)

    return keras.tree.map_structure(np.asarray, at_all())


def assert_same(actual: Any, expected: Any, rounded: Collection[str] = (), name: str = "") -> None:
    """Equal structures of arrays of equal dtypes, bit for bit but where `rounded` says."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(actual[key], value, rounded, key)
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    if name in rounded:
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6, err_msg=name)
    else:
        np.testing.assert_array_equal(actual, expected, err_msg=name)
