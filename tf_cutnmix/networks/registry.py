"""Networks by name: `build_network("resnet56", (32, 32, 3), 10)`."""

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tf_cutnmix.errors import InputError, first_line, unknown
from tf_cutnmix.networks.families import FAMILIES, NAMES, Backbone
from tf_cutnmix.networks.foreign import adapt, check_classes, find_stages, head


def _snake_case(name: str) -> str:
    """`MobileNetV3Small` as `keras_mobilenet_v3_small`."""
    brand = name.replace("Net", "net").replace("NeXt", "next")
    return "keras_" + re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", brand).lower()


KERAS_NAMES = {
    _snake_case(name): function
    for name, function in vars(keras.applications).items()
    if inspect.isfunction(function) and "include_top" in inspect.signature(function).parameters
}

# https://github.com/tensorflow/tensorflow/issues/49930
_EFFICIENTNETS = tuple(f"keras_efficientnet_b{number}" for number in range(8))
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def find(name: str, weights: str | None = None) -> Callable[..., keras.Model]:
    """What builds a network of this name, called as `build_network` without the name.

    Raises:
      InputError: nothing knows the name, it has no such weights, or it cannot be imported.
    """
    if name.startswith("keras_"):
        if name not in KERAS_NAMES:
            raise unknown("--arch", name, KERAS_NAMES)
        return functools.partial(_build_of_keras, name, weights)
    if weights:
        raise InputError(
            f"--arch={name} has no {weights} weights: networks that have begin with keras_"
        )
    if ":" in name:
        return functools.partial(_build_of_the_user, name, _function(name))
    try:
        for family in FAMILIES:
            if backbone := family(name):
                return functools.partial(_build, name, backbone)
    except InputError as error:
        raise InputError(f"{error}{_of_imagenet(name)}") from None
    if known := _of_imagenet(name):
        raise InputError(f"unknown --arch {name!r}{known}")
    raise unknown("--arch", name, NAMES)


def _of_imagenet(name: str) -> str:
    """What to say of a name that is known elsewhere."""
    if f"keras_{name}" in KERAS_NAMES:
        return f"; the network of ImageNet is keras_{name}"
    if name in ("resnet18", "resnet34"):
        return "; of ImageNet's Keras has keras_resnet50 and deeper, for small images see resnet20"
    if name.startswith(("vit", "deit", "swin")):
        return "; Keras has no transformers for images, name a function of yours: module:function"
    return ""


def build_network(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    mean: float | Sequence[float] = 127.5,
    deviation: float | Sequence[float] = 63.75,
    weights: str | None = None,
) -> keras.Model:
    """Build a network.

    Args:
      name: such as "resnet56"; "keras_" and a name of `keras.applications`, such as
        "keras_mobilenet_v3_small"; or "module:function" of a function of yours, which is called
        with `input_shape` and `num_classes` and returns what `adapt` takes, or a whole peer.
      input_shape: height, width and channels of the images.
      num_classes: 2 or more.
      mean: of the training images, in pixel values; one number, or one for each channel.
        Networks from elsewhere have a normalisation of their own.
      deviation: standard deviation, likewise.
      weights: None for fresh ones, or "imagenet", which Keras downloads, for a network of
        `keras.applications`; its classifier is a fresh one all the same.

    Returns:
      A functional model from images `[B, H, W, C]` in [0, 255] to the endpoints by name:
      the maps `[B, h, w, channels]` of each stage, "features" `[B, D]`, "logits" `[B, K]`.

    Raises:
      InputError: nothing knows the name, it has no such weights or they cannot be downloaded,
        or the images are too small for the network.
      ValueError: there are fewer than 2 classes, or a size or deviation that is not above 0.
    """
    if not isinstance(name, str):
        raise TypeError(f"a network is given by its name, such as 'resnet20'. Received: {name!r}")
    check_classes(num_classes)
    if not all(size and size > 0 for size in input_shape):
        raise ValueError(f"input_shape must be sizes of 1 or more. Received: {input_shape}")
    if not np.all(np.asarray(deviation) > 0):
        raise ValueError(f"deviation must be above 0. Received: {deviation}")
    return find(name, weights)(input_shape, num_classes, mean=mean, deviation=deviation)


def _build(
    name: str,
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    mean: float | Sequence[float],
    deviation: float | Sequence[float],
) -> keras.Model:
    images = keras.Input(input_shape, name="images")
    channels = input_shape[-1]
    normalise = keras.layers.Normalization(
        mean=np.broadcast_to(mean, channels).tolist(),
        variance=np.broadcast_to(np.square(deviation), channels).tolist(),
        dtype="float32",
        name="normalisation",
    )
    endpoints = backbone(normalise(images))
    logits = head(num_classes)(endpoints["features"])
    return keras.Model(images, {**endpoints, "logits": logits}, name=name)


def _build_of_keras(
    name: str, weights: str | None, input_shape: tuple[int, int, int], num_classes: int, **_: Any
) -> keras.Model:
    """One of `keras.applications`, with its own preprocessing and a stage for each size of maps."""
    function = functools.partial(
        KERAS_NAMES[name], include_top=False, pooling="avg", input_shape=input_shape
    )
    try:
        model = function(weights=weights)
    except ValueError as error:
        raise InputError(f"--arch={name}: {first_line(error)}: pass --image_size") from error
    # What keras.utils.get_file raises when it has no connection.
    except Exception as error:
        raise InputError(
            f"the {weights} weights of {name} cannot be downloaded: {first_line(error)}"
        ) from error
    if weights and name in _EFFICIENTNETS:
        given, model = model.get_weights(), function(weights=None)
        model.set_weights(given)
    preprocess = importlib.import_module(KERAS_NAMES[name].__module__).preprocess_input
    network = adapt(model, num_classes, stages=find_stages(model), preprocess=preprocess, name=name)
    mend_normalisation(network)
    return network


def mend_normalisation(network: keras.Model) -> None:
    """Set right what Keras' ImageNet weights of EfficientNet B0 to B7 normalise by.

    They hold standard deviations where the layer takes variances, for which Keras adds a
    `Rescaling` where a network is built for `weights="imagenet"`. Ours have none, whatever they
    start from, so that a run's weights fit the network that is built anew to export them.
    """
    if network.name in _EFFICIENTNETS:
        for variable in network.variables:
            if variable.name == "variance" and np.allclose(variable, _IMAGENET_DEVIATION):
                variable.assign(np.square(_IMAGENET_DEVIATION))


def _function(name: str) -> Callable[[tuple[int, int, int], int], object]:
    """The function that `module:function` names."""
    module_name, _, function_name = name.partition(":")
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
    return function


def _build_of_the_user(
    name: str,
    function: Callable[[tuple[int, int, int], int], object],
    input_shape: tuple[int, int, int],
    num_classes: int,
    **_: Any,
) -> keras.Model:
    """The whole peer that the function returns, or one that is made of its model."""
    try:
        model = function(input_shape, num_classes)
    except Exception as error:
        raise InputError(
            f"--arch={name}: the function failed for {input_shape} and {num_classes} classes: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
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
