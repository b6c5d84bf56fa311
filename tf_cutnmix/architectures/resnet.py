"""Residual networks for small images, of any depth 6n+2.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015), section 4.2:
a 3x3 convolution, three stages of n basic blocks with 16, 32 and 64 filters, shortcuts
without parameters (option A: every other pixel, the new channels zero), global pooling.
"""

import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError

NAMES = tuple(f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110))


def backbone(name: str) -> Callable[[keras.KerasTensor], keras.KerasTensor] | None:
    """The network of a name "resnet<6n+2>", or None for a name of another kind.

    Raises:
      InputError: the depth is not 6n+2.
    """
    match = re.fullmatch(r"resnet(\d+)", name)
    if not match:
        return None
    depth = int(match[1])
    if depth < 8 or depth % 6 != 2:
        lower = max(8, (depth - 2) // 6 * 6 + 2)
        raise InputError(
            f"--arch={name}: the depth must be 6n+2, such as resnet{lower} or resnet{lower + 6}"
        )

    def features(images: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.layers.ReLU()(_normalised_convolution(images, 16, strides=1))
        for stage, filters in enumerate((16, 32, 64)):
            for block in range((depth - 2) // 6):
                x = _basic_block(x, filters, strides=2 if stage and not block else 1)
        return keras.layers.GlobalAveragePooling2D(name="features")(x)

    return features


def _basic_block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    shortcut = x
    x = keras.layers.ReLU()(_normalised_convolution(x, filters, strides))
    x = _normalised_convolution(x, filters, strides=1)
    if strides > 1:
        new = filters - shortcut.shape[-1]
        shortcut = keras.ops.pad(
            shortcut[:, ::strides, ::strides], ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2))
        )
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def _normalised_convolution(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters, 3, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
