"""VGG with BatchNormalization for small images: `vgg11`, `vgg13`, `vgg16`, `vgg19`.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2014), table 1, columns A, B, D and E: five stages of 3x3 convolutions, each ending in a 2x2
max pooling. As usual for small images, BatchNormalization follows each convolution, global
pooling takes images of any size, and the two hidden layers before the logits have 512 units;
`vgg<depth>_linear` has none.
"""

import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.families.layers import convolution, pooled, rectified

NAMES = ("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_linear")

_CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def backbone(
    name: str,
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]] | None:
    """The function from images to endpoints of a name "vgg<depth>", None for others.

    Stages are "stage1" to "stage5", each with its pooling; there is no "stem".

    Raises:
      InputError: the depth is none of the paper's.
    """
    match = re.fullmatch(r"vgg([0-9]+)(_linear)?", name)
    if not match:
        return None
    linear = match[2] or ""
    counts = _CONVOLUTIONS.get(int(match[1]))
    if not counts:
        known = ", ".join(f"vgg{depth}{linear}" for depth in _CONVOLUTIONS)
        raise InputError(f"--arch={name}: the depth must be one of the paper's: {known}")

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends, x = {}, images
        filters = (64, 128, 256, 512, 512)
        for stage, (count, width) in enumerate(zip(counts, filters, strict=True), start=1):
            for _ in range(count):
                x = rectified(convolution(x, width, use_bias=True))
            # "same" keeps a last pixel: images may be smaller than 32 pixels.
            x = keras.layers.MaxPooling2D(2, padding="same")(x)
            ends[f"stage{stage}"] = x
        features = pooled(x) if linear else _hidden_layers(x)
        return {**ends, "features": features}

    return endpoints


def _hidden_layers(x: keras.KerasTensor) -> keras.KerasTensor:
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(512, activation="relu", kernel_initializer="he_normal")(x)
    return keras.layers.Dense(
        512, activation="relu", kernel_initializer="he_normal", name="features"
    )(x)
