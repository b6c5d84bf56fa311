"""Networks by name: `build_network("resnet56", (32, 32, 3), 10)`.

Every network maps images to `{"features": [B, D], "logits": [B, K]}`, takes pixels of 0 to
255 and normalises them itself. A family of networks is one module with `NAMES`, the names to
suggest, and `backbone(name)`, which returns None for a name that is not its own and else a
function from an image tensor to pooled features.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from tf_cutnmix.architectures import resnet
from tf_cutnmix.errors import unknown

_FAMILIES = (resnet,)


def backbone(name: str) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """The function from images to pooled features of a network's name.

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
      A functional model from images `[B, H, W, C]` in [0, 255] to
      `{"features": [B, D], "logits": [B, K]}`.

    Raises:
      InputError: no family knows the name.
      ValueError: there are fewer than 2 classes.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more. Received: num_classes={num_classes}")
    images = keras.Input(input_shape, name="images")
    channels = input_shape[-1]
    normalise = keras.layers.Normalization(
        mean=np.broadcast_to(mean, channels).tolist(),
        variance=np.broadcast_to(np.square(deviation), channels).tolist(),
        dtype="float32",
        name="normalisation",
    )
    features = backbone(name)(normalise(images))
    head = keras.layers.Dense(num_classes, kernel_initializer="he_normal", name="logits")
    logits = head(features)
    return keras.Model(images, {"features": features, "logits": logits}, name=name)
