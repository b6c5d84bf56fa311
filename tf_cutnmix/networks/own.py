"""A network of the user's own by name: `module:function`."""

import importlib
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError, first_line
from tf_cutnmix.networks.foreign import adapt, find_stages

Build = Callable[[tuple[int, int, int], int], keras.Model]


def builder(name: str) -> Build | None:
    """What builds the peer that `module:function` names; None for names of another form.

    The function is called with the images' shape `(H, W, C)` and the number of classes. What it
    returns is a model as `adapt` takes it, from pixels to a map or features, without a
    classifier; or a whole peer, from pixels to the endpoints by name, with "features" and
    "logits" among them.

    Raises:
      InputError: there is no such module or function; later, if it fails or returns another.
    """
    module_name, colon, function_name = name.partition(":")
    if not colon:
        return None
    try:
        module = importlib.import_module(module_name)
    # Importing runs the user's module, which may raise anything.
    except Exception as error:
        raise InputError(
            f"--arch={name}: cannot import {module_name!r}: {first_line(error)}. Name a module of "
            "the working directory or an installed one, as module:function"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"--arch={name}: {module_name} has no function {function_name!r}")

    def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
        try:
            model = function(input_shape, num_classes)
        except Exception as error:
            raise InputError(
                f"--arch={name}: {function_name}({input_shape}, {num_classes}) failed: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        return _peer(name, model, num_classes)

    return build


def _peer(name: str, model: object, num_classes: int) -> keras.Model:
    """The model itself if it is a whole peer, else one that is made of it."""
    if not isinstance(model, keras.Model):
        raise InputError(f"--arch={name} returned a {type(model).__name__}, not a keras.Model")
    output = getattr(model, "output", None)  # a Sequential has none
    if isinstance(output, dict):
        if {"features", "logits"} <= set(output):
            return model
        raise InputError(
            f"--arch={name} returned the endpoints {', '.join(map(str, output))}: a peer needs "
            '"features" [B, D] and "logits" [B, K] among them'
        )
    if [tensor.shape for tensor in getattr(model, "outputs", None) or ()] == [(None, num_classes)]:
        raise InputError(
            f"--arch={name} returned a model that ends in {num_classes} numbers, as many as there "
            "are classes: return it without its classifier, which is put on top here"
        )
    try:
        return adapt(model, num_classes, stages=find_stages(model))
    except ValueError as error:
        raise InputError(f"--arch={name}: {error}") from error
