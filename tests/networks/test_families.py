"""Each family is the network of its paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import between, noise, pixels, small_network
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.registry import find


def size_by_the_paper(depth: int, num_classes: int) -> int:
    """Trainable parameters of section 4.2 of He et al. (2015), counted layer by layer.

    6n+1 convolutions of 3x3 without bias, each with a scale and an offset per filter; n blocks
    of two convolutions per stage; shortcuts of option A, which have none; one dense layer.
    """
    inputs = [3]
    for filters in (16, 32, 64):
        inputs += [filters] * ((depth - 2) // 3)
    filters = [16, *inputs[1:]]
    convolutions = sum(9 * i * o for i, o in zip([3, *filters], filters, strict=False))
    return convolutions + sum(2 * o for o in filters) + 64 * num_classes + num_classes


def trainable_size(network: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def convolutions(network: keras.Model, size: int) -> list[keras.layers.Conv2D]:
    all_sizes = [x for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    return [x for x in all_sizes if x.kernel_size == (size, size)]


def silence(layers: list[keras.layers.Conv2D]) -> None:
    for layer in layers:
        layer.kernel.assign(tf.zeros(layer.kernel.shape))


# Trainable parameters for 10 classes.
SIZES = {
    **{f"resnet{depth}": size_by_the_paper(depth, 10) for depth in (8, 20)},
    # Option A's 464,154 of ResNet-32, and two shortcuts: 16 * 32 + 64, 32 * 64 + 128.
    "resnet32_projection": 466_906,
    # The networks of the papers on online distillation, as their published code has them.
    "resnet110_bottleneck": 1_147_738,
    "wide_bottleneck20_8": 6_848_090,
    "vgg16": 15_253_578,
    "vgg16_linear": 14_728_266,
    "densenet_bc40_12": 176_122,
    # As counted for the benchmark of "Contrastive Representation Distillation" (2019).
    "wrn16_2": 691_674,
    # torchvision's 9,220,480 of the convolutions, 5,504 of the BatchNormalization,
    # 2 * (512 * 512 + 512) of the hidden layers.
    "vgg11": 9_756_426,
    # Of four convolutions of 256 to 512 filters more.
    "vgg19": 15_253_578 + (256 * 256 + 2 * 512 * 512) * 9 + 3 * (256 + 512 + 512),
    "mobilenet_v2": 2_236_682,
    # What torchvision lists for 1,000 classes, without 990 of them.
    "shufflenet_v2_x0.5": 1_366_792 - 990 * 1025,
    "shufflenet_v2_x1": 2_278_604 - 990 * 1025,
    "shufflenet_v2_x1.5": 3_503_624 - 990 * 1025,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_the_parameters_are_those_of_the_paper_or_its_code(name, size):
    assert trainable_size(build_network(name, (8, 8, 3), 10)) == size


def test_the_description_of_residual_networks_gives_the_parameters_of_their_table_6():
    for depth, millions in ((20, 0.27), (32, 0.46), (56, 0.85), (110, 1.7)):
        assert size_by_the_paper(depth, 10) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(
    ("name", "num_classes", "millions"),
    [("wrn28_10", 10, 36.5), ("densenet_bc100_12", 100, 0.8)],
)
def test_the_parameters_are_those_of_the_papers_tables(name, num_classes, millions):
    network = build_network(name, (8, 8, 3), num_classes)
    assert round(trainable_size(network) / 1e6, 1) == millions


def test_a_narrow_mobilenet_has_the_weights_of_keras():
    theirs = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None)
    ours = build_network("mobilenet_v2_x0.35", (8, 8, 3), 10)
    expected = sorted(tuple(v.shape) for v in theirs.trainable_variables)
    found = sorted(tuple(v.shape) for v in ours.trainable_variables[:-2])
    assert found == expected


def test_a_stage_halves_the_resolution_and_option_a_takes_every_other_pixel():
    """With convolutions of zero, a block passes on its shortcut alone."""
    probe = build_network("resnet8", (8, 8, 3), 10, mean=(0, 0, 0), deviation=(1, 1, 1))
    silence(convolutions(probe, 3))
    identity = np.zeros((3, 3, 3, 16), "float32")
    identity[1, 1, range(3), range(3)] = 1
    convolutions(probe, 3)[0].kernel.assign(identity)
    images = pixels()
    # A new BatchNormalization divides by sqrt(1 + epsilon).
    expected = np.zeros((len(images), 64))
    expected[:, 24:27] = images[:, ::4, ::4].mean(axis=(1, 2)) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(probe(images)["features"], expected, rtol=1e-4)


def test_a_projection_is_a_convolution_of_every_other_pixel():
    network = build_network("resnet8_projection", (8, 8, 3), 10)
    silence(convolutions(network, 3)[1:])
    projection = convolutions(network, 1)[0].kernel.numpy()[0, 0]
    assert projection.shape == (16, 32)
    maps = noise((2, 8, 8, 16))
    expected = maps[:, ::2, ::2] @ projection / np.sqrt(1 + 1e-5)
    found = between(network, "stage1", "stage2")(maps)
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


def test_a_bottleneck_has_its_strides_in_the_3x3_convolution():
    network = small_network("resnet11_bottleneck")
    strided = [x.strides for x in convolutions(network, 3) if x.strides != (1, 1)]
    assert strided == [(2, 2), (2, 2)]


def test_a_wide_block_passes_on_what_it_gets_without_a_relu():
    network = build_network("wrn16_1", (8, 8, 3), 10)
    silence(convolutions(network, 3))
    maps = noise((2, 8, 8, 16))
    np.testing.assert_array_equal(between(network, "stem", "stage1")(maps), maps)


def test_a_wide_shortcut_follows_the_first_normalisation_and_relu():
    network = build_network("wrn10_2", (8, 8, 3), 10)
    silence(convolutions(network, 3))
    projection = convolutions(network, 1)[0].kernel.numpy()[0, 0]
    assert projection.shape == (16, 32)
    maps = noise((2, 8, 8, 16))
    expected = np.maximum(maps, 0) @ projection / np.sqrt(1 + 1e-5)
    found = between(network, "stem", "stage1")(maps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_dense_layer_adds_its_channels_behind_those_it_got():
    network = build_network("densenet_bc16_4", (8, 8, 3), 10)
    kinds = keras.layers.Concatenate
    joined = [layer.output for layer in network.layers if isinstance(layer, kinds)]
    assert [tensor.shape[-1] for tensor in joined] == [12, 16, 12, 16, 12, 16]
    stem, first, second = keras.Model(network.input, [network.output["stem"], *joined[:2]])(
        pixels()
    )
    np.testing.assert_array_equal(first[..., :8], stem)
    np.testing.assert_array_equal(second[..., :12], first)


def test_a_transition_averages_two_by_two_pixels():
    network = build_network("densenet_bc10_4", (8, 8, 3), 10)
    silence(convolutions(network, 3))
    transition = next(x for x in convolutions(network, 1) if x.kernel.shape[2:] == (12, 6))
    maps = noise((2, 8, 8, 8))
    active = np.maximum(maps, 0) @ transition.kernel.numpy()[0, 0, :8] / np.sqrt(1 + 1e-5)
    expected = active.reshape(2, 4, 2, 4, 2, 6).mean(axis=(2, 4))
    found = between(network, "stem", "stage1")(maps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_inverted_residual_ends_without_a_relu():
    outputs = small_network("mobilenet_v2_x0.1")(pixels())
    assert np.min(outputs["stem"]) == 0
    assert np.max(outputs["stage4"]) <= 6
    for stage in ("stage1", "stage2", "stage3"):
        assert np.min(outputs[stage]) < 0


def test_a_shuffle_block_changes_half_of_its_channels_and_takes_them_in_turn():
    network = small_network("shufflenet_v2_x0.5")
    ends = [layer.output for layer in network.layers if isinstance(layer, keras.layers.Reshape)]
    assert [end.shape[-1] for end in ends] == [48] * 4 + [96] * 8 + [192] * 4
    block = keras.Model(ends[0], ends[1])
    maps, other = noise((2, 4, 4, 48)), noise((2, 4, 4, 48), seed=1)
    found = block(maps).numpy()
    changed_first = block(np.concatenate([other[..., :24], maps[..., 24:]], axis=-1)).numpy()
    changed_second = block(np.concatenate([maps[..., :24], other[..., 24:]], axis=-1)).numpy()
    # The shuffle of the paper: groups as rows, transposed.
    sides = np.concatenate([maps[..., :24], found[..., 1::2]], axis=-1)
    shuffled = sides.reshape(2, 4, 4, 2, 24).swapaxes(3, 4).reshape(2, 4, 4, 48)
    np.testing.assert_array_equal(found, shuffled)
    np.testing.assert_array_equal(changed_first[..., 1::2], found[..., 1::2])
    np.testing.assert_array_equal(changed_first[..., ::2], other[..., :24])
    assert np.abs(changed_second[..., 1::2] - found[..., 1::2]).max() > 0.1


@pytest.mark.parametrize("name", ["mobilenet_v2_x0.1", "shufflenet_v2_x0.5"])
def test_depthwise_kernels_start_as_large_as_nine_inputs_ask_for(name):
    kinds = keras.layers.DepthwiseConv2D
    kernels = [x.kernel.numpy() for x in small_network(name).layers if isinstance(x, kinds)]
    spread = np.std(np.concatenate([kernel.ravel() for kernel in kernels]))
    np.testing.assert_allclose(spread, np.sqrt(2 / 9), rtol=0.1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet57", "6n+2, such as resnet56 or resnet62"),
        ("resnet0", "6n+2, such as resnet8 or resnet14"),
        ("resnet12_bottleneck", "9n+2, such as resnet11_bottleneck or resnet20_bottleneck"),
        ("wrn20_8", "6n+4, such as wrn16_8 or wrn22_8; .*wide_bottleneck20_8"),
        ("wrn3_1", "6n+4, such as wrn10_1 or wrn16_1"),
        ("densenet_bc41_12", "6n+4, such as densenet_bc40_12 or densenet_bc46_12"),
    ],
)
def test_a_depth_that_does_not_fit_is_refused_with_those_that_do(name, words):
    words = words.replace("+", r"\+")
    with pytest.raises(InputError, match=f"--arch={name}: the depth must be {words}"):
        find(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        *(("wrn16_0", "wrn16_2"), ("wide_bottleneck20_0", "wide_bottleneck20_8")),
        *(("densenet_bc40_0", "densenet_bc40_12"), ("mobilenet_v2_x0.0", "mobilenet_v2")),
        *(("shufflenet_v2_x3", "shufflenet_v2_x1"), ("vgg14", "vgg1"), ("vgg-19", "vgg19")),
        *(("resnett20", "resnet20"), ("ResNet-56", "resnet56"), ("wrn_28_10", "wrn28_10")),
        *(("densenet40_12", "densenet_bc40_12"), ("keras_mobilenetv2", "keras_mobilenet_v2")),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(InputError, match=f"{name}'.*did you mean '{nearest}"):
        find(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet101", "6n.2.*ImageNet is keras_resnet101"),
        ("resnet18", "keras_resnet50 and deeper"),
        ("efficientnet_b0", "keras_efficientnet_b0"),
        ("densenet121", "keras_densenet121"),
        ("vit_b_16", "module:function"),
    ],
)
def test_networks_of_imagenet_are_named_as_they_are_here(name, words):
    with pytest.raises(InputError, match=words):
        find(name)


def test_a_name_that_is_near_none_is_refused_with_all_of_them():
    with pytest.raises(InputError) as error:
        find("mlp")
    for family in ("resnet8", "wrn28_10", "vgg16", "densenet", "mobilenet_v2", "shufflenet"):
        assert family in str(error.value)
