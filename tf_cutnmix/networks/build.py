"""Networks by name: `build_network("resnet56", (32, 32, 3), 10)`."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from tf_cutnmix.errors import unknown
from tf_cutnmix.networks.families import (
    densenet,
    mobilenet,
    resnet,
    shufflenet,
    vgg,
    wide_resnet,
)

_FAMILIES = (resnet, wide_resnet, vgg, densenet, mobilenet, shufflenet)


def backbone(name: str) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]]:
    """The function from images to the endpoints, up to "features", of a network's name.

    Raises:
      InputError: no family knows the name.
    """
    for family in _FAMILIES:
        if found := family.backbone(name):
            return found
    raise unknown("--arch", name, [known for family in _FAMILIES for known in family.NAMES])


def build_network(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    mean: float | Sequence[float] = 127.5,
    deviation: float | Sequence[float] = 63.75,
) -> keras.Model:
    """Build a network with fresh weights.

    Args:
      name: such as "resnet56".
      input_shape: height, width and channels of the images.
      num_classes: 2 or more.
      mean: of the training images, in pixel values; one number, or one for each channel.
      deviation: standard deviation, likewise.

    Returns:
      A functional model from images `[B, H, W, C]` in [0, 255] to the endpoints by name:
      the maps `[B, h, w, channels]` of each stage, "features" `[B, D]`, "logits" `[B, K]`.

    Raises:
      InputError: no family knows the name.
      ValueError: there are fewer than 2 classes.
    """
    check_classes(num_classes)
    images = keras.Input(input_shape, name="images")
    channels = input_shape[-1]
    normalise = keras.layers.Normalization(
        mean=np.broadcast_to(mean, channels).tolist(),
        variance=np.broadcast_to(np.square(deviation), channels).tolist(),
        dtype="float32",
        name="normalisation",
    )
    endpoints = backbone(name)(normalise(images))
    logits = head(num_classes)(endpoints["features"])
    return keras.Model(images, {**endpoints, "logits": logits}, name=name)


def head(num_classes: int) -> keras.layers.Dense:
    """The classifier on the features, whose output are the logits."""
    return keras.layers.Dense(num_classes, kernel_initializer="he_normal", name="logits")


def check_classes(num_classes: int) -> None:
    """Raise `ValueError` for fewer than 2 classes."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more. Received: num_classes={num_classes}")
