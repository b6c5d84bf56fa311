"""Densely connected networks, `densenet_bc<6n+4>_<k>`, such as densenet_bc40_12.

Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks" (2016),
section 3, DenseNet-BC: a 3x3 convolution of 2k filters, three dense blocks of n layers with
growth rate k, between them transitions that keep half of the channels and of the resolution.
"""

import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.families.layers import blocks_per_stage, convolution, pooled, rectified

NAMES = ("densenet_bc40_12",)


def backbone(
    name: str,
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]] | None:
    """The function from images to endpoints of "densenet_bc<6n+4>_<k>", None for others.

    Stages are "stem" (2k channels), "stage1" and "stage2", which end in a transition, and
    "stage3", which ends in BatchNormalization and ReLU.

    Raises:
      InputError: the depth is not 6n+4; the growth rate is 0.
    """
    match = re.fullmatch(r"densenet_bc([0-9]+)_([0-9]+)", name)
    if not match:
        return None
    growth = int(match[2])
    if not growth:
        raise InputError(
            f"--arch={name}: the growth rate must be 1 or more, such as densenet_bc{match[1]}_12"
        )
    layers = blocks_per_stage(name, f"densenet_bc{{}}_{growth}", int(match[1]), 6, 4)

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": convolution(images, 2 * growth)}
        x = ends["stem"]
        for stage in (1, 2, 3):
            for _ in range(layers):
                x = _dense_layer(x, growth)
            x = _transition(x) if stage < 3 else rectified(x)
            ends[f"stage{stage}"] = x
        return {**ends, "features": pooled(x)}

    return endpoints


def _dense_layer(x: keras.KerasTensor, growth: int) -> keras.KerasTensor:
    inside = rectified(convolution(rectified(x), 4 * growth, 1))
    return keras.layers.Concatenate()([x, convolution(inside, growth)])


def _transition(x: keras.KerasTensor) -> keras.KerasTensor:
    x = convolution(rectified(x), x.shape[-1] // 2, 1)
    # "same" keeps a last pixel: images may be smaller than 4 pixels.
    return keras.layers.AveragePooling2D(2, padding="same")(x)
