"""Families of networks: functions from a name to a network up to its features.

Each returns None for a name that is not its own, and else a function from images to the endpoints
of `tf_cutnmix.networks` up to "features". A width of 0 or a depth that a paper has not is nobody's.
"""

import functools
import re
from collections.abc import Callable

import keras

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.blocks import (
    batch_normalisation,
    convolution,
    depthwise_convolution,
    pooled,
    rectified,
)

Backbone = Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]]

# Those to suggest.
NAMES = (
    *(f"resnet{depth}" for depth in (8, 20, 32, 56, 110)),
    *("resnet32_projection", "resnet110_bottleneck", "wide_bottleneck20_8"),
    *("wrn16_2", "wrn28_10", "wrn40_2"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_linear"),
    *("densenet_bc40_12", "mobilenet_v2", "shufflenet_v2_x0.5", "shufflenet_v2_x1"),
)

_DEEPEST = 2000
_OF_BOTTLENECKS = "; what papers on distillation call WRN-20-8 is wide_bottleneck20_8"


def resnet(name: str) -> Backbone | None:
    """Residual networks for small images, of any depth 6n+2, 9n+2 or 6n+4.

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
    - `wrn<6n+4>_<k>`: Zagoruyko and Komodakis, "Wide Residual Networks" (2016), table 1: k times
      as many filters, BatchNormalization and ReLU before each convolution, no dropout. Where the
      shape changes the shortcut is a 1x1 convolution of the block's first BatchNormalization and
      ReLU, as in the authors' code.

    Stages are "stem" (16 channels), "stage1", "stage2" and "stage3".

    Raises:
      InputError: no n gives the depth.
    """
    if wide := re.fullmatch("wrn([0-9]+)_([1-9][0-9]*)", name):
        blocks, block = _blocks_per_stage(name, 6, 4, _OF_BOTTLENECKS), _wide_block
    elif match := re.fullmatch("resnet[0-9]+(_projection)?", name):
        blocks = _blocks_per_stage(name, 6, 2)
        block = _projected_block if match[1] else _basic_block
    elif match := re.fullmatch("resnet[0-9]+_bottleneck|wide_bottleneck[0-9]+_([1-9][0-9]*)", name):
        blocks = _blocks_per_stage(name, 9, 2)
        block = functools.partial(_bottleneck_block, width=int(match[1] or 1))
    else:
        return None
    filters = 16 * int(wide[2] if wide else 1)

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        x = convolution(images, 16)
        ends = {"stem": x if wide else rectified(x)}
        x = ends["stem"]
        for stage in (1, 2, 3):
            for number in range(blocks):
                x = block(x, filters * 2 ** (stage - 1), 2 if stage > 1 and number == 0 else 1)
            ends[f"stage{stage}"] = rectified(x) if wide and stage == 3 else x
        return {**ends, "features": pooled(ends["stage3"])}

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


def _wide_block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    inside = rectified(x)
    same = strides == 1 and x.shape[-1] == filters
    shortcut = x if same else convolution(inside, filters, 1, strides)
    inside = rectified(convolution(inside, filters, strides=strides))
    return keras.layers.Add()([convolution(inside, filters), shortcut])


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


_VGGS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def vgg(name: str) -> Backbone | None:
    """VGG for small images: `vgg11`, `vgg13`, `vgg16`, `vgg19`, and `vgg<depth>_linear`.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
    (2014), table 1, columns A, B, D and E: five stages of 3x3 convolutions, each ending in a 2x2
    max pooling. As usual for small images, BatchNormalization follows each convolution, global
    pooling takes images of any size, and the two hidden layers before the logits have 512 units;
    `vgg<depth>_linear` has none. Stages are "stage1" to "stage5"; there is no "stem".
    """
    counts = _VGGS.get(name.removesuffix("_linear"))
    if not counts:
        return None

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends, x = {}, images
        filters = (64, 128, 256, 512, 512)
        for stage, (count, width) in enumerate(zip(counts, filters, strict=True), start=1):
            for _ in range(count):
                x = rectified(convolution(x, width, use_bias=True))
            # "same" keeps a last pixel: images may be smaller than 32 pixels.
            x = keras.layers.MaxPooling2D(2, padding="same")(x)
            ends[f"stage{stage}"] = x
        features = pooled(x) if name.endswith("_linear") else _hidden_layers(x)
        return {**ends, "features": features}

    return endpoints


def _hidden_layers(x: keras.KerasTensor) -> keras.KerasTensor:
    hidden = functools.partial(
        keras.layers.Dense, 512, activation="relu", kernel_initializer="he_normal"
    )
    x = hidden()(keras.layers.GlobalAveragePooling2D()(x))
    return hidden(name="features")(x)


def densenet(name: str) -> Backbone | None:
    """Densely connected networks, `densenet_bc<6n+4>_<k>`, such as densenet_bc40_12.

    Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks" (2016),
    section 3, DenseNet-BC: a 3x3 convolution of 2k filters, three dense blocks of n layers with
    growth rate k, between them transitions that keep half of the channels and of the resolution.
    Stages are "stem" (2k channels), "stage1" and "stage2", which end in a transition, and
    "stage3", which ends in BatchNormalization and ReLU.

    Raises:
      InputError: the depth is not 6n+4.
    """
    match = re.fullmatch("densenet_bc[0-9]+_([1-9][0-9]*)", name)
    if not match:
        return None
    layers, growth = _blocks_per_stage(name, 6, 4), int(match[1])

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


# Table 2, (t, c, n, s): expansion, channels, blocks, strides of the first block; by resolution.
_MOBILENET = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


def mobilenet(name: str) -> Backbone | None:
    """MobileNetV2 for small images: `mobilenet_v2`, or `mobilenet_v2_x<width>` such as x0.5.

    Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear
    Bottlenecks" (2018), table 2. As usual for small images, the first convolution and the group
    of 24 channels keep the resolution: 32 pixels become 4 at the end, not 1. Stages are "stem"
    and, one for each resolution, "stage1" to "stage4"; the last ends in the convolution of 1280
    filters (more if the width is above 1, never fewer).
    """
    match = re.fullmatch(r"mobilenet_v2(?:_x([0-9]+(?:\.[0-9]+)?))?", name)
    width = float(match[1] or 1) if match else 0
    if not width:
        return None

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": _relu6(convolution(images, _mobile_channels(32, width)))}
        x = ends["stem"]
        for stage, groups in enumerate(_MOBILENET, start=1):
            for expansion, channels, blocks, strides in groups:
                for number in range(blocks):
                    first = number == 0
                    filters = _mobile_channels(channels, width)
                    x = _inverted_residual(x, expansion, filters, strides if first else 1)
            ends[f"stage{stage}"] = x
        ends["stage4"] = _relu6(convolution(x, _mobile_channels(1280, max(1.0, width)), 1))
        return {**ends, "features": pooled(ends["stage4"])}

    return endpoints


def _mobile_channels(channels: int, width: float) -> int:
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


# Table 5: channels of stages 2, 3 and 4, filters of the last convolution.
_SHUFFLENETS = {
    "shufflenet_v2_x0.5": (48, 96, 192, 1024),
    "shufflenet_v2_x1": (116, 232, 464, 1024),
    "shufflenet_v2_x1.5": (176, 352, 704, 1024),
    "shufflenet_v2_x2": (244, 488, 976, 2048),
}


def shufflenet(name: str) -> Backbone | None:
    """ShuffleNetV2 for small images: `shufflenet_v2_x0.5`, `_x1`, `_x1.5` and `_x2`.

    Ma, Zhang, Zheng and Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
    Design" (2018), table 5 and figure 3. As usual for small images, the first convolution keeps
    the resolution and no max pooling follows: 32 pixels become 4 at the end, not 1. Stages are
    "stem" (24 channels) and "stage1" to "stage3", which are the paper's 2 to 4; the last ends in
    the convolution of 1024 or 2048 filters.
    """
    if name not in _SHUFFLENETS:
        return None

    def endpoints(images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        ends = {"stem": rectified(convolution(images, 24))}
        x = ends["stem"]
        *widths, last = _SHUFFLENETS[name]
        for stage, (width, blocks) in enumerate(zip(widths, (4, 8, 4), strict=True), start=1):
            x = _shuffle_down(x, width // 2)
            for _ in range(blocks - 1):
                x = _shuffle_block(x, width // 2)
            ends[f"stage{stage}"] = x
        ends["stage3"] = rectified(convolution(x, last, 1))
        return {**ends, "features": pooled(ends["stage3"])}

    return endpoints


def _shuffle_block(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    return _shuffled(x[..., :filters], _shuffle_branch(x[..., filters:], filters, strides=1))


def _shuffle_down(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    shortcut = batch_normalisation(depthwise_convolution(x, strides=2))
    shortcut = rectified(convolution(shortcut, filters, 1))
    return _shuffled(shortcut, _shuffle_branch(x, filters, strides=2))


def _shuffle_branch(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    x = rectified(convolution(x, filters, 1))
    x = batch_normalisation(depthwise_convolution(x, strides))
    return rectified(convolution(x, filters, 1))


def _shuffled(left: keras.KerasTensor, right: keras.KerasTensor) -> keras.KerasTensor:
    """Both side by side, then shuffled as two groups: their channels in turn."""
    pairs = keras.ops.stack([left, right], axis=-1)
    return keras.layers.Reshape((*left.shape[1:-1], 2 * left.shape[-1]))(pairs)


def _blocks_per_stage(name: str, each: int, rest: int, hint: str = "") -> int:
    """The n of a network whose depth, the first number of its name, is `each * n + rest`."""
    depth = int(re.findall("[0-9]+", name)[0])
    if depth > _DEEPEST:
        raise InputError(f"--arch={name}: the depth must be at most {_DEEPEST}")
    n = max(1, (depth - rest) // each)
    if depth != each * n + rest:
        fitting = [re.sub("[0-9]+", str(each * m + rest), name, count=1) for m in (n, n + 1)]
        raise InputError(
            f"--arch={name}: the depth must be {each}n+{rest}, such as {' or '.join(fitting)}{hint}"
        )
    return n


FAMILIES = (resnet, vgg, densenet, mobilenet, shufflenet)
