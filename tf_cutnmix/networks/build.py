"""Networks by name: `build_network("resnet56", (32, 32, 3), 10)`."""

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.networks import applications, own
from tf_cutnmix.networks.classifier import check_classes, head
from tf_cutnmix.networks.families import (
    densenet,
    mobilenet,
    resnet,
    shufflenet,
    vgg,
    wide_resnet,
)

_FAMILIES = (resnet, wide_resnet, vgg, densenet, mobilenet, shufflenet)


def find(name: str, weights: str | None = None) -> Callable[..., keras.Model]:
    """What builds a network of this name, called as `build_network` without the name.

    Raises:
      InputError: nothing knows the name, it has no such weights, or it cannot be imported.
    """
    if builder := applications.builder(name, weights):
        return _normalised_by_itself(builder)
    if weights:
        raise InputError(
            f"--arch={name} has no {weights} weights: networks that have begin with keras_"
        )
    if builder := own.builder(name):
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
        "keras_mobilenet_v3_small"; or "module:function" of a function of yours (see `own`).
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


def _normalised_by_itself(build: own.Build) -> Callable[..., keras.Model]:
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
