"""Each family is the network of its paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import between, noise, pixels, small_network
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.build import find


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
    kinds = (keras.layers.Conv2D,)
    return [x for x in network.layers if isinstance(x, kinds) and x.kernel_size == (size, size)]


def silence(layers: list[keras.layers.Conv2D]) -> None:
    for layer in layers:
        layer.kernel.assign(tf.zeros(layer.kernel.shape))


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("depth", [8, 20, 56])
def test_the_parameters_are_those_that_the_description_gives(depth, num_classes):
    found = trainable_size(build_network(f"resnet{depth}", (32, 32, 3), num_classes))
    assert found == size_by_the_paper(depth, num_classes)


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_the_parameters_are_those_of_table_6(depth, millions):
    found = trainable_size(build_network(f"resnet{depth}", (32, 32, 3), 10)) / 1e6
    digits = len(str(millions).split(".")[1])
    assert round(found, digits) == millions


@pytest.mark.parametrize(
    ("name", "of_10", "of_100"),
    [
        # Option A's 464,154 of ResNet-32, and two shortcuts: 16 * 32 + 64, 32 * 64 + 128.
        ("resnet32_projection", 466_906, 472_756),
        # The networks of the papers on online distillation, as their published code has them.
        ("resnet110_bottleneck", 1_147_738, 1_170_868),
        ("wide_bottleneck20_8", 6_848_090, 6_871_220),
        ("vgg16", 15_253_578, 15_299_748),
        ("vgg16_linear", 14_728_266, 14_774_436),
        ("densenet_bc40_12", 176_122, 188_092),
        # As counted for the benchmark of "Contrastive Representation Distillation" (2019).
        ("wrn16_2", 691_674, 703_284),
        ("wrn40_2", 2_243_546, 2_255_156),
        # torchvision's 9,220,480 and 9,404,992 of the convolutions, 5,504 and 5,888 of the
        # BatchNormalization, 2 * (512 * 512 + 512) of the hidden layers.
        ("vgg11", 9_756_426, 9_802_596),
        ("vgg13", 9_941_322, 9_987_492),
        ("mobilenet_v2", 2_236_682, 2_351_972),
    ],
)
def test_the_parameters_are_those_of_the_published_code(name, of_10, of_100):
    network = build_network(name, (32, 32, 3), 100)
    features = network.output["features"].shape[-1]
    found = trainable_size(network)
    assert (found - 90 * (features + 1), found) == (of_10, of_100)


@pytest.mark.parametrize(
    ("name", "num_classes", "millions"),
    [
        ("wrn40_4", 10, 8.9),
        ("wrn16_8", 10, 11.0),
        ("wrn28_10", 10, 36.5),
        ("densenet_bc100_12", 100, 0.8),
    ],
)
def test_the_parameters_are_those_of_the_papers_tables(name, num_classes, millions):
    network = build_network(name, (32, 32, 3), num_classes)
    assert round(trainable_size(network) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("width", "of_1000"),
    [("0.5", 1_366_792), ("1", 2_278_604), ("1.5", 3_503_624), ("2", 7_393_996)],
)
def test_the_parameters_of_shufflenet_are_those_that_torchvision_lists(width, of_1000):
    network = build_network(f"shufflenet_v2_x{width}", (32, 32, 3), 10)
    features = network.output["features"].shape[-1]
    assert trainable_size(network) + 990 * (features + 1) == of_1000


@pytest.mark.parametrize("width", [0.35, 1, 1.4])
def test_mobilenet_has_the_weights_of_keras(width):
    theirs = keras.applications.MobileNetV2((32, 32, 3), width, include_top=False, weights=None)
    ours = build_network("mobilenet_v2" if width == 1 else f"mobilenet_v2_x{width}", (8, 8, 3), 10)
    expected = sorted(tuple(v.shape) for v in theirs.trainable_variables)
    found = sorted(tuple(v.shape) for v in ours.trainable_variables[:-2])
    assert found == expected


@pytest.mark.parametrize(("depth", "kind"), [(16, "VGG16"), (19, "VGG19")])
def test_vgg_has_the_convolutions_of_keras(depth, kind):
    theirs = getattr(keras.applications, kind)(weights=None, include_top=False)
    ours = build_network(f"vgg{depth}_linear", (8, 8, 3), 10)
    expected = [tuple(layer.kernel.shape) for layer in convolutions(theirs, 3)]
    assert [tuple(layer.kernel.shape) for layer in convolutions(ours, 3)] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet20", 20),
        ("vgg16", 16),
        ("densenet_bc22_4", 22),
        # Their depth does not count the three shortcuts.
        ("wide_bottleneck20_2", 23),
        # Its depth counts them, but not the dense layer.
        ("wrn16_2", 17),
    ],
)
def test_there_are_as_many_weight_layers_as_the_name_says(name, expected):
    layers = build_network(name, (8, 8, 3), 10).layers
    weighted = [x for x in layers if isinstance(x, keras.layers.Conv2D | keras.layers.Dense)]
    assert len(weighted) == expected


def test_a_stage_halves_the_resolution_and_option_a_takes_every_other_pixel(network):
    """With convolutions of zero, a block passes on its shortcut alone."""
    probe = build_network("resnet8", (8, 8, 3), 10, mean=(0, 0, 0), deviation=(1, 1, 1))
    convolutions = [x for x in probe.layers if isinstance(x, keras.layers.Conv2D)]
    for convolution in convolutions:
        convolution.kernel.assign(tf.zeros(convolution.kernel.shape))
    identity = np.zeros((3, 3, 3, 16), "float32")
    identity[1, 1, range(3), range(3)] = 1
    convolutions[0].kernel.assign(identity)
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


@pytest.mark.parametrize("width", [1, 8])
def test_a_bottleneck_is_wide_inside_alone(width):
    """Widths 16k, 32k and 64k of the first two convolutions; 64, 128 and 256 at the end."""
    name = f"wide_bottleneck11_{width}" if width > 1 else "resnet11_bottleneck"
    shapes = {tuple(x.kernel.shape) for x in convolutions(small_network(name), 1)}
    inputs, ends = (16, 64, 128), (64, 128, 256)
    inside = [width * filters for filters in (16, 32, 64)]
    expected = {(1, 1, i, w) for i, w in zip(inputs, inside, strict=True)}
    expected |= {(1, 1, w, e) for w, e in zip(inside, ends, strict=True)}
    expected |= {(1, 1, i, e) for i, e in zip(inputs, ends, strict=True)}
    assert shapes == expected
    strided = [x for x in convolutions(small_network(name), 3) if x.strides == (2, 2)]
    assert len(strided) == 2


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
    ("name", "suggestions"),
    [
        ("resnet57", ["resnet56", "resnet62"]),
        ("resnet9", ["resnet8", "resnet14"]),
        ("resnet2", ["resnet8", "resnet14"]),
        ("resnet0", ["resnet8", "resnet14"]),
        ("resnet109", ["resnet104", "resnet110"]),
        ("resnet33_projection", ["6n+2", "resnet32_projection", "resnet38_projection"]),
        ("resnet12_bottleneck", ["9n+2", "resnet11_bottleneck", "resnet20_bottleneck"]),
        ("wide_bottleneck21_8", ["9n+2", "wide_bottleneck20_8", "wide_bottleneck29_8"]),
        ("wrn20_8", ["6n+4", "wrn16_8", "wrn22_8", "wide_bottleneck20_8"]),
        ("wrn3_1", ["6n+4", "wrn10_1", "wrn16_1"]),
        ("densenet_bc41_12", ["6n+4", "densenet_bc40_12", "densenet_bc46_12"]),
        ("vgg14", ["vgg11", "vgg13", "vgg16", "vgg19"]),
        ("vgg14_linear", ["vgg13_linear", "vgg16_linear"]),
    ],
)
def test_a_depth_that_does_not_fit_is_refused_with_those_that_do(name, suggestions):
    with pytest.raises(InputError, match=f"--arch={name}: the depth must be") as error:
        build_network(name, (8, 8, 3), 10)
    assert all(suggestion in str(error.value) for suggestion in suggestions)
    for suggestion in suggestions:
        if not suggestion.endswith(("n+2", "n+4")):
            assert find(suggestion)


def test_only_a_depth_of_bottlenecks_is_refused_with_the_name_of_bottlenecks():
    with pytest.raises(InputError) as error:
        build_network("wrn21_8", (8, 8, 3), 10)
    assert "bottleneck" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("wrn16_0", "wrn16_2"),
        ("wide_bottleneck20_0", "wide_bottleneck20_8"),
        ("densenet_bc40_0", "densenet_bc40_12"),
        ("mobilenet_v2_x0", "mobilenet_v2_x0.5"),
        ("mobilenet_v2_x0.0", "mobilenet_v2_x0.5"),
        ("shufflenet_v2_x3", "shufflenet_v2_x0.5, shufflenet_v2_x1, shufflenet_v2_x1.5"),
        ("shufflenet_v2", "shufflenet_v2_x2"),
    ],
)
def test_a_width_that_does_not_fit_is_refused_with_one_that_does(name, suggestion):
    with pytest.raises(InputError, match=f"--arch={name}: the ") as error:
        build_network(name, (8, 8, 3), 10)
    assert suggestion in str(error.value)
    assert find(suggestion.split(", ")[-1])
