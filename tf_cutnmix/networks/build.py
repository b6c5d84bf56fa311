"""Networks by name: `build_network("resnet56", (32, 32, 3), 10)`."""

import functools
import importlib
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tf_cutnmix.errors import InputError, first_line, unknown
from tf_cutnmix.networks.families import (
    densenet,
    mobilenet,
    resnet,
    shufflenet,
    vgg,
    wide_resnet,
)
from tf_cutnmix.networks.foreign import adapt, check_classes, find_stages, head

_FAMILIES = (resnet, wide_resnet, vgg, densenet, mobilenet, shufflenet)
_PREFIX = "keras_"

# The names by the module whose `preprocess_input` they need.
_MODULES = {
    "convnext": (
        "ConvNeXtTiny",
        "ConvNeXtSmall",
        "ConvNeXtBase",
        "ConvNeXtLarge",
        "ConvNeXtXLarge",
    ),
    "densenet": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "efficientnet": tuple(f"EfficientNetB{number}" for number in range(8)),
    "efficientnet_v2": tuple(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", *"SML")),
    "inception_resnet_v2": ("InceptionResNetV2",),
    "inception_v3": ("InceptionV3",),
    "mobilenet": ("MobileNet",),
    "mobilenet_v2": ("MobileNetV2",),
    "mobilenet_v3": ("MobileNetV3Small", "MobileNetV3Large"),
    "nasnet": ("NASNetMobile", "NASNetLarge"),
    "resnet": ("ResNet50", "ResNet101", "ResNet152"),
    "resnet_v2": ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    "vgg16": ("VGG16",),
    "vgg19": ("VGG19",),
    "xception": ("Xception",),
}

Build = Callable[[tuple[int, int, int], int], keras.Model]


def _in_small_letters(name: str) -> str:
    """`MobileNetV3Small` as `mobilenet_v3_small`."""
    brand = name.replace("Net", "net").replace("NeXt", "next")
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", brand).lower()


KERAS_NAMES = {
    _PREFIX + _in_small_letters(name): (module, name)
    for module, names in _MODULES.items()
    for name in names
}


def find(name: str, weights: str | None = None) -> Callable[..., keras.Model]:
    """What builds a network of this name, called as `build_network` without the name.

    Raises:
      InputError: nothing knows the name, it has no such weights, or it cannot be imported.
    """
    if builder := _of_keras(name, weights):
        return _normalised_by_itself(builder)
    if weights:
        raise InputError(
            f"--arch={name} has no {weights} weights: networks that have begin with keras_"
        )
    if builder := _of_the_user(name):
        return _normalised_by_itself(builder)
    for family in _FAMILIES:
        if backbone := family.backbone(name):
            return functools.partial(_build, name, backbone)
    raise unknown("--arch", name, [known for family in _FAMILIES for known in family.NAMES])


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


def _normalised_by_itself(build: Build) -> Callable[..., keras.Model]:
    return lambda input_shape, num_classes, **_: build(input_shape, num_classes)


def _build(
    name: str,
    backbone: Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]],
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


def _of_keras(name: str, weights: str | None = None) -> Build | None:
    """What builds a network of `keras.applications`; None for names without the prefix.

    It has the preprocessing of its own, from pixels, a new classifier, and a stage for each size
    of its maps.

    Args:
      name: "keras_" and the name in small letters, its words apart.
      weights: "imagenet" or None, for fresh ones.

    Raises:
      InputError: there is no such network; later, if the images are too small for it or the
        weights cannot be downloaded.
    """
    if not name.startswith(_PREFIX):
        return None
    if name not in KERAS_NAMES:
        raise unknown("--arch", name, KERAS_NAMES)
    module, application = KERAS_NAMES[name]

    def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
        function = getattr(keras.applications, application)
        try:
            model = function(include_top=False, weights=weights, input_shape=input_shape)
        except ValueError as error:
            raise InputError(f"--arch={name}: {first_line(error)}: pass --image_size") from error
        # What keras.utils.get_file raises when it has no connection.
        except Exception as error:
            raise InputError(
                f"the {weights} weights of {name} cannot be downloaded: {first_line(error)}"
            ) from error
        preprocess = getattr(keras.applications, module).preprocess_input
        stages = find_stages(model)
        return adapt(model, num_classes, stages=stages, preprocess=preprocess, name=name)

    return build


def _of_the_user(name: str) -> Build | None:
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
