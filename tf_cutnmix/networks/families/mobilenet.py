"""MobileNetV2 for small images: `mobilenet_v2`, or `mobilenet_v2_x<width>` such as x0.5.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks" (2018), table 2. As usual for small images, the first convolution and the group
of 24 channels keep the resolution: 32 pixels become 4 at the end, not 1.
"""

import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.families.layers import (
    batch_normalisation,
    convolution,
    depthwise_convolution,
    pooled,
)

NAMES = ("mobilenet_v2",)

# Table 2, (t, c, n, s): expansion, channels, blocks, strides of the first block; by resolution.
_STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


def backbone(
    name: str,
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]] | None:
    """The function from images to endpoints of a MobileNetV2's name, None for others.

    Stages are "stem" and, one for each resolution, "stage1" to "stage4"; the last ends in
    the convolution of 1280 filters (more if the width is above 1, never fewer).

    Raises:
      InputError: the width is 0.
    """
    match = re.fullmatch(r"mobilenet_v2(?:_x([0-9]+(?:\.[0-9]+)?))?", name)
    if not match:
        return None
    width = float(match[1] or 1)
    if not width:
        raise InputError(f"--arch={name}: the width must be above 0, such as mobilenet_v2_x0.5")

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": _relu6(convolution(images, _channels(32, width)))}
        x = ends["stem"]
        for stage, groups in enumerate(_STAGES, start=1):
            for expansion, channels, blocks, strides in groups:
                for number in range(blocks):
                    x = _inverted_residual(
                        x, expansion, _channels(channels, width), strides if number == 0 else 1
                    )
            ends[f"stage{stage}"] = x
        ends["stage4"] = _relu6(convolution(x, _channels(1280, max(1.0, width)), 1))
        return {**ends, "features": pooled(ends["stage4"])}

    return endpoints


def _channels(channels: int, width: float) -> int:
    """`channels * width` as the nearest multiple of 8 that is no more than a tenth smaller."""
    wanted = channels * width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8


def _inverted_residual(
    x: keras.KerasTensor, expansion: int, channels: int, strides: int
) -> keras.KerasTensor:
    inside = x if expansion == 1 else _relu6(convolution(x, expansion * x.shape[-1], 1))
    inside = _relu6(depthwise_convolution(inside, strides))
    inside = batch_normalisation(convolution(inside, channels, 1))
    same = strides == 1 and x.shape[-1] == channels
    return keras.layers.Add()([x, inside]) if same else inside


def _relu6(x: keras.KerasTensor) -> keras.KerasTensor:
    """`x` after BatchNormalization and a ReLU that ends at 6."""
    return keras.layers.ReLU(6.0)(batch_normalisation(x))
