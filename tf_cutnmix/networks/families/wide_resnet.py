"""Wide residual networks, `wrn<6n+4>_<k>`, such as wrn28_10.

Zagoruyko and Komodakis, "Wide Residual Networks" (2016), table 1: a 3x3 convolution of 16
filters, three stages of n blocks with 16k, 32k and 64k filters, BatchNormalization and ReLU
before each convolution, no dropout. Where the shape changes the shortcut is a 1x1 convolution
of the block's first BatchNormalization and ReLU, as in the authors' code.
"""

import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.families.layers import blocks_per_stage, convolution, pooled, rectified

NAMES = ("wrn16_2", "wrn28_10", "wrn40_2")


def backbone(
    name: str,
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]] | None:
    """The function from images to endpoints of a name "wrn<6n+4>_<k>", None for others.

    Stages are "stem" (16 channels), "stage1", "stage2" and "stage3".

    Raises:
      InputError: the depth is not 6n+4; the width is 0.
    """
    match = re.fullmatch(r"wrn([0-9]+)_([0-9]+)", name)
    if not match:
        return None
    depth, width = int(match[1]), int(match[2])
    if not width:
        raise InputError(f"--arch={name}: the width must be 1 or more, such as wrn16_2")
    hint = (
        f"; for the network that papers on distillation call WRN-{depth}-{width}, with bottleneck "
        f"blocks, write wide_bottleneck{depth}_{width}"
    )
    blocks = blocks_per_stage(
        name, f"wrn{{}}_{width}", depth, 6, 4, hint=hint if depth > 2 and depth % 9 == 2 else ""
    )

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": convolution(images, 16)}
        x = ends["stem"]
        for stage, filters in enumerate((16 * width, 32 * width, 64 * width), start=1):
            for number in range(blocks):
                x = _block(x, filters, strides=2 if stage > 1 and number == 0 else 1)
            ends[f"stage{stage}"] = x
        ends["stage3"] = rectified(x)
        return {**ends, "features": pooled(ends["stage3"])}

    return endpoints


def _block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    inside = rectified(x)
    same = strides == 1 and x.shape[-1] == filters
    shortcut = x if same else convolution(inside, filters, 1, strides)
    inside = rectified(convolution(inside, filters, strides=strides))
    return keras.layers.Add()([convolution(inside, filters), shortcut])
