"""ShuffleNetV2 for small images: `shufflenet_v2_x0.5`, `_x1`, `_x1.5` and `_x2`.

Ma, Zhang, Zheng and Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design" (2018), table 5 and figure 3. As usual for small images, the first convolution keeps
the resolution and no max pooling follows: 32 pixels become 4 at the end, not 1.
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
    rectified,
)

NAMES = ("shufflenet_v2_x0.5", "shufflenet_v2_x1")

# Table 5: channels of stages 2, 3 and 4, filters of the last convolution.
_CHANNELS = {
    "0.5": (48, 96, 192, 1024),
    "1": (116, 232, 464, 1024),
    "1.5": (176, 352, 704, 1024),
    "2": (244, 488, 976, 2048),
}
_BLOCKS = (4, 8, 4)


def backbone(
    name: str,
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]] | None:
    """The function from images to endpoints of a ShuffleNetV2's name, None for others.

    Stages are "stem" (24 channels), "stage1" to "stage3", which are the paper's 2 to 4; the
    last ends in the convolution of 1024 or 2048 filters.

    Raises:
      InputError: the width is none of the paper's.
    """
    match = re.fullmatch(r"shufflenet_v2(?:_x([0-9.]+))?", name)
    if not match:
        return None
    channels = _CHANNELS.get(match[1])
    if not channels:
        known = ", ".join(f"shufflenet_v2_x{width}" for width in _CHANNELS)
        raise InputError(f"--arch={name}: the width must be one of the paper's: {known}")

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": rectified(convolution(images, 24))}
        x = ends["stem"]
        *widths, last = channels
        for stage, (width, blocks) in enumerate(zip(widths, _BLOCKS, strict=True), start=1):
            x = _down_block(x, width // 2)
            for _ in range(blocks - 1):
                x = _basic_block(x, width // 2)
            ends[f"stage{stage}"] = x
        ends["stage3"] = rectified(convolution(x, last, 1))
        return {**ends, "features": pooled(ends["stage3"])}

    return endpoints


def _basic_block(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    return _shuffled(x[..., :filters], _branch(x[..., filters:], filters, strides=1))


def _down_block(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    shortcut = batch_normalisation(depthwise_convolution(x, strides=2))
    shortcut = rectified(convolution(shortcut, filters, 1))
    return _shuffled(shortcut, _branch(x, filters, strides=2))


def _branch(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    x = rectified(convolution(x, filters, 1))
    x = batch_normalisation(depthwise_convolution(x, strides))
    return rectified(convolution(x, filters, 1))


def _shuffled(left: keras.KerasTensor, right: keras.KerasTensor) -> keras.KerasTensor:
    """Both side by side, then shuffled as two groups: their channels in turn."""
    pairs = keras.ops.stack([left, right], axis=-1)
    return keras.layers.Reshape((*left.shape[1:-1], 2 * left.shape[-1]))(pairs)
