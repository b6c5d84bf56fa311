"""Residual networks for small images, of any depth 6n+2 or 9n+2.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015), section 4.2:
a 3x3 convolution, three stages of n blocks, the first block of stages 2 and 3 with strides,
global pooling. The names say which blocks:

- `resnet<6n+2>`, as in the paper: two 3x3 convolutions of 16, 32 and 64 filters, shortcuts
  without parameters (option A: every other pixel, the new channels zero).
- `resnet<6n+2>_projection`: the same, but where the shape changes the shortcut is a 1x1
  convolution with BatchNormalization (option B). Papers on online distillation mean this
  network by "ResNet-32".
- `resnet<9n+2>_bottleneck`: 1x1, 3x3 and 1x1 convolutions, the first two of 16, 32 and 64
  filters, the last of four times as many; shortcuts as above; the 3x3 convolution has the
  strides. Papers on online distillation mean this network by "ResNet-110".
- `wide_bottleneck<9n+2>_<k>`: the same with k times as many filters inside the blocks, and
  as many at their ends. What those papers call "WRN-20-8" is `wide_bottleneck20_8`.
"""

import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.families.layers import (
    batch_normalisation,
    blocks_per_stage,
    convolution,
    pooled,
    rectified,
)

NAMES = (
    *(f"resnet{depth}" for depth in (8, 20, 32, 56, 110)),
    "resnet32_projection",
    "resnet110_bottleneck",
    "wide_bottleneck20_8",
)


def backbone(
    name: str,
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]] | None:
    """The function from images to endpoints of a residual network's name, None for others.

    Stages are "stem" (16 channels), "stage1", "stage2" and "stage3".

    Raises:
      InputError: the depth is not 6n+2 or, with bottlenecks, 9n+2; the width is 0.
    """
    if match := re.fullmatch(r"resnet([0-9]+)(_projection)?", name):
        blocks = blocks_per_stage(name, f"resnet{{}}{match[2] or ''}", int(match[1]), 6, 2)
        block = _projected_block if match[2] else _basic_block
    elif match := re.fullmatch(
        r"(?:resnet([0-9]+)_bottleneck|wide_bottleneck([0-9]+)_([0-9]+))", name
    ):
        form = re.sub(r"[0-9]+", "{}", name, count=1)
        blocks = blocks_per_stage(name, form, int(match[1] or match[2]), 9, 2)
        width = int(match[3] or 1)
        if not width:
            raise InputError(f"--arch={name}: the width must be 1 or more, such as {name[:-1]}8")

        def block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
            return _bottleneck_block(x, filters, strides, width)
    else:
        return None

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": rectified(convolution(images, 16))}
        x = ends["stem"]
        for stage, filters in enumerate((16, 32, 64), start=1):
            for number in range(blocks):
                x = block(x, filters, 2 if stage > 1 and number == 0 else 1)
            ends[f"stage{stage}"] = x
        return {**ends, "features": pooled(x)}

    return endpoints


def _basic_block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    shortcut = x
    if strides > 1:
        new = filters - x.shape[-1]
        shortcut = keras.ops.pad(
            x[:, ::strides, ::strides], ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2))
        )
    return _joined(_two_convolutions(x, filters, strides), shortcut)


def _projected_block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    return _joined(_two_convolutions(x, filters, strides), _projection(x, filters, strides))


def _bottleneck_block(
    x: keras.KerasTensor, filters: int, strides: int, width: int
) -> keras.KerasTensor:
    inside = rectified(convolution(x, width * filters, 1))
    inside = rectified(convolution(inside, width * filters, 3, strides))
    residual = batch_normalisation(convolution(inside, 4 * filters, 1))
    return _joined(residual, _projection(x, 4 * filters, strides))


def _two_convolutions(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    inside = rectified(convolution(x, filters, strides=strides))
    return batch_normalisation(convolution(inside, filters))


def _projection(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    """`x` where the shape stays, else a 1x1 convolution of it with BatchNormalization."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    return batch_normalisation(convolution(x, filters, 1, strides))


def _joined(residual: keras.KerasTensor, shortcut: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.ReLU()(keras.layers.Add()([residual, shortcut]))
