"""Copies of layers."""

from typing import Any

import keras

from tf_cutnmix.errors import last_line


def copy_layer(layer: keras.Operation, **changes: Any) -> keras.Operation:
    """A layer or operation of the same config, but for changes, with fresh weights.

    A `Lambda` has no weights and stays the layer that it is: Keras does not read its function back.

    Raises:
      ValueError: the layer cannot be made from its config.
    """
    if isinstance(layer, keras.layers.Lambda):
        return layer
    try:
        return type(layer).from_config({**layer.get_config(), **changes})
    # A layer's own code runs here.
    except Exception as error:
        # Keras says last what it was, after all of the config.
        reason = last_line(str(error).strip() or type(error).__name__)
        reason = reason.removeprefix("Exception encountered: ").rstrip(".")
        raise ValueError(
            f"the layer {layer.name!r} ({type(layer).__name__}) cannot be copied: it must be made "
            f"anew by its from_config(get_config()). {reason}. A model that can is kept whole "
            "where another one calls it: keras.Model(images, model(images))"
        ) from error
