"""Networks by name and adapted ones: sizes, endpoints, blocks, errors, saving, precisions."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import build_network
from tf_cutnmix.architectures import adapt, backbone, stages
from tf_cutnmix.errors import InputError

# A small member of each family, and what divides the resolution at the end of each stage.
SCALES = {
    "resnet8": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "resnet8_projection": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "resnet11_bottleneck": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "wide_bottleneck11_2": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "wrn10_2": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "vgg11": {"stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32},
    "vgg11_linear": {"stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32},
    "densenet_bc10_4": {"stem": 1, "stage1": 2, "stage2": 4, "stage3": 4},
    "mobilenet_v2_x0.1": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4, "stage4": 8},
    "shufflenet_v2_x0.5": {"stem": 1, "stage1": 2, "stage2": 4, "stage3": 8},
}
# One of each family.
FAMILIES = [
    "resnet8_projection",
    "resnet11_bottleneck",
    "wrn10_2",
    "vgg11",
    "densenet_bc10_4",
    "mobilenet_v2_x0.1",
    "shufflenet_v2_x0.5",
]


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


def pixels(shape: tuple[int, ...] = (4, 8, 8, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


@functools.cache
def small_network(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(name, (8, 8, 3), 10)


def assert_equal_outputs(found: keras.Model, expected: keras.Model) -> None:
    found, expected = found(pixels()), expected(pixels())
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return small_network("resnet8")


def convolutions(network: keras.Model, size: int) -> list[keras.layers.Conv2D]:
    kinds = (keras.layers.Conv2D,)
    return [x for x in network.layers if isinstance(x, kinds) and x.kernel_size == (size, size)]


def silence(layers: list[keras.layers.Conv2D]) -> None:
    for layer in layers:
        layer.kernel.assign(tf.zeros(layer.kernel.shape))


def between(network: keras.Model, start: str, end: str) -> keras.Model:
    return keras.Model(network.output[start], network.output[end])


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


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


@pytest.mark.parametrize("num_classes", [2, 37])
def test_images_of_any_size_and_any_number_of_classes(num_classes):
    outputs = build_network("resnet8", (28, 20, 1), num_classes)(pixels((2, 28, 20, 1)))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "stem": (2, 28, 20, 16),
        "stage1": (2, 28, 20, 16),
        "stage2": (2, 14, 10, 32),
        "stage3": (2, 7, 5, 64),
        "features": (2, 64),
        "logits": (2, num_classes),
    }


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 7), (8, 8)])
@pytest.mark.parametrize("name", SCALES)
def test_endpoints_come_in_order_and_in_the_resolution_of_their_stage(name, height, width):
    network = build_network(name, (height, width, 3), 10)
    expected = {
        stage: (-(-height // scale), -(-width // scale)) for stage, scale in SCALES[name].items()
    }
    assert list(network.output) == [*expected, "features", "logits"]
    assert {stage: network.output[stage].shape[1:3] for stage in expected} == expected
    assert stages(network) == tuple(expected)
    outputs = network(pixels((2, height, width, 3)))
    for endpoint, symbolic in network.output.items():
        assert outputs[endpoint].shape[1:] == symbolic.shape[1:]


@pytest.mark.parametrize("name", [name for name in SCALES if name != "vgg11"])
def test_features_are_the_mean_of_the_last_stage(name):
    outputs = small_network(name)(pixels())
    last = outputs[list(SCALES[name])[-1]]
    np.testing.assert_allclose(
        outputs["features"], np.mean(last, axis=(1, 2)), rtol=1e-4, atol=1e-5
    )


def test_a_stage_of_ten_follows_a_stage_of_nine():
    images = keras.Input((8, 8, 3))
    names = [f"stage{number}" for number in range(10, 0, -1)]
    network = keras.Model(images, {name: images * index for index, name in enumerate(names)})
    assert stages(network) == tuple(reversed(names))


def test_a_network_without_stages_knows_none():
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    assert stages(keras.Model(images, {"features": features, "logits": features})) == ()
    assert stages(keras.Model(images, features)) == ()


@pytest.mark.parametrize("name", SCALES)
def test_each_stage_is_a_cut(name):
    network = small_network(name)
    expected = network(pixels())
    for stage in stages(network):
        found = between(network, stage, "logits")(expected[stage])
        np.testing.assert_allclose(found, expected["logits"], rtol=1e-4, atol=1e-5)


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
            assert backbone(suggestion)


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
    assert backbone(suggestion.split(", ")[-1])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnett20", "resnet20"),
        ("ResNet-56", "resnet56"),
        ("vgg-19", "vgg19"),
        ("wrn_28_10", "wrn28_10"),
        ("mobilenetv2", "mobilenet_v2"),
        ("densenet40_12", "densenet_bc40_12"),
        ("shufflenet_x1", "shufflenet_v2_x1"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(InputError, match="did you mean") as error:
        build_network(name, (8, 8, 3), 10)
    assert repr(name) in str(error.value)
    assert repr(nearest) in str(error.value)


def test_a_name_that_is_near_none_is_refused_with_all_of_them():
    with pytest.raises(InputError) as error:
        build_network("mlp", (8, 8, 3), 10)
    for family in ("resnet8", "wrn28_10", "vgg16", "densenet", "mobilenet_v2", "shufflenet"):
        assert family in str(error.value)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes=1"):
        build_network("resnet8", (8, 8, 3), 1)


def test_pixels_are_normalised_by_mean_and_deviation_of_each_channel():
    mean, deviation = np.array([125.3, 123.0, 113.9]), np.array([63.0, 62.1, 66.7])
    built = build_network("resnet8", (8, 8, 3), 10, mean=mean, deviation=deviation)
    normalise = keras.Model(built.input, built.get_layer("normalisation").output)
    found = normalise(pixels())
    np.testing.assert_allclose(found, (pixels() - mean) / deviation, rtol=1e-5, atol=1e-5)


def test_logits_depend_on_pixels_only_through_their_normalised_values(network):
    mean, deviation = np.array([100.0, 120.0, 140.0]), np.array([50.0, 60.0, 70.0])
    other = build_network("resnet8", (8, 8, 3), 10, mean=mean, deviation=deviation)
    other.set_weights(network.get_weights())
    normalised = (pixels() - 127.5) / 63.75
    found = other((normalised * deviation + mean).astype("float32"))["logits"]
    np.testing.assert_allclose(found, network(pixels())["logits"], rtol=1e-3, atol=1e-4)


def test_uint8_and_float_pixels_give_equal_outputs(network):
    expected, found = network(pixels()), network(pixels().astype("float32"))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("name", ["resnet8", *FAMILIES])
def test_a_saved_network_gives_equal_outputs(name, tmp_path):
    network = small_network(name)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert stages(loaded) == stages(network)
    assert_equal_outputs(loaded, network)


@pytest.mark.parametrize("name", ["resnet8", "densenet_bc10_4", "shufflenet_v2_x0.5"])
def test_a_copy_gives_equal_outputs(name):
    network = small_network(name)
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    assert stages(copy) == stages(network)
    assert_equal_outputs(copy, network)


def test_a_network_compiles_under_xla(network):
    compiled = tf.function(lambda images: network(images), jit_compile=True)(pixels())
    expected = network(pixels())
    for name in expected:
        np.testing.assert_allclose(compiled[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_stage_and_its_gradients_compile_under_xla(name):
    """It has all kinds of layers of its family; DenseNet's transitions come before it."""
    network = small_network(name)
    start = "stem" if name.startswith("densenet") else stages(network)[-2]
    part = between(network, start, "logits")
    weights = [weight.value for weight in part.trainable_variables]

    def step(maps: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            logits = part(maps)
            loss = tf.reduce_mean(logits[:, 0] - logits[:, 1])
        return logits, tape.gradient(loss, weights)

    maps = network(pixels())[start]
    found, expected = tf.function(step, jit_compile=True)(maps), step(maps)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-3, atol=1e-3)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3 * np.abs(other).max() + 1e-7)


@pytest.mark.parametrize("name", SCALES)
def test_a_gradient_reaches_every_weight(name):
    network = small_network(name)
    weights = network.trainable_variables
    with tf.GradientTape() as tape:
        logits = network(pixels(), training=True)["logits"]
        loss = keras.losses.sparse_categorical_crossentropy(np.arange(4), logits, from_logits=True)
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, weight.path
        # BatchNormalization takes back what a bias before it adds.
        if "conv" not in weight.path or "bias" not in weight.path:
            assert np.abs(gradient).max() > 0, weight.path


def test_the_same_seed_gives_the_same_weights_and_two_networks_differ():
    def build() -> list[np.ndarray]:
        return build_network("resnet8", (8, 8, 3), 10).get_weights()

    keras.utils.set_random_seed(3)
    first, second = build(), build()
    keras.utils.set_random_seed(3)
    again = build()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], second[0])


def test_mixed_precision_computes_in_bfloat16_and_keeps_weights_and_normalisation_in_float32(
    network,
):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build_network("resnet8", (8, 8, 3), 10)
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(network.get_weights())
    expected, found = network(pixels()), half(pixels())
    assert found["logits"].dtype == tf.bfloat16
    assert {variable.dtype for variable in half.variables} == {"float32"}
    assert half.get_layer("normalisation").compute_dtype == "float32"
    np.testing.assert_allclose(
        tf.cast(found["logits"], "float32"), expected["logits"], rtol=0.1, atol=0.2
    )
    from_floats = half(pixels().astype("float32"))
    np.testing.assert_array_equal(from_floats["logits"], found["logits"])


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, "mixed_bfloat16") for name in FAMILIES] + [("mobilenet_v2_x0.1", "mixed_float16")],
)
def test_every_family_computes_in_mixed_precision(name, precision):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        half = build_network(name, (8, 8, 3), 10)
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(small_network(name).get_weights())
    expected, found = small_network(name)(pixels()), half(pixels())
    for endpoint, value in found.items():
        assert value.dtype == precision.removeprefix("mixed_"), endpoint
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(
        tf.cast(found["logits"], "float32"), expected["logits"], atol=0.1 * scale
    )


def user_model(**settings) -> keras.Model:
    """One with a branch, a BatchNormalization that has seen data, dropout and a frozen layer."""
    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(images)
    inside = keras.layers.Conv2D(6, 3, padding="same", name="inside")(x)
    x = keras.layers.Add(name="join")([x, inside])
    x = keras.layers.BatchNormalization(name="statistics")(x)
    x = keras.layers.Conv2D(5, 3, 2, padding="same", trainable=False, name="frozen")(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(images, x, name="mine")
    model.get_layer("statistics").moving_mean.assign(noise((6,)))
    return model


def test_a_model_of_keras_becomes_a_peer_with_its_weights(tmp_path):
    model = keras.applications.MobileNetV3Small((32, 32, 3), include_top=False, weights=None)
    peer = adapt(model, 7, stages={"stem": "activation", "stage1": "expanded_conv_project_bn"})
    images = pixels((2, 32, 32, 3))
    outputs = peer(images)
    expected = np.mean(model(images), axis=(1, 2))
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-4, atol=1e-6)
    assert list(peer.output) == ["stem", "stage1", "features", "logits"]
    assert stages(peer) == ("stem", "stage1")
    assert outputs["stem"].shape == (2, 16, 16, 16)
    assert outputs["logits"].shape == (2, 7)
    peer.save(tmp_path / "peer.keras")
    loaded = keras.models.load_model(tmp_path / "peer.keras")
    np.testing.assert_array_equal(loaded(images)["logits"], outputs["logits"])


def test_a_model_that_pools_itself_gives_the_same_features():
    model = user_model()
    pooling = keras.layers.GlobalAveragePooling2D()(model.output)
    found = adapt(keras.Model(model.input, pooling), 10)(pixels())["features"]
    np.testing.assert_array_equal(found, adapt(model, 10)(pixels())["features"])


def test_an_adapted_model_is_flat_and_can_be_cut_at_its_stages():
    peer = adapt(
        user_model(), 10, stages={"stage1": "join", "stem": "first", "stage2": "statistics"}
    )
    assert not any(isinstance(layer, keras.Model) for layer in peer.layers)
    assert stages(peer) == ("stem", "stage1", "stage2")
    assert peer.name == "mine"
    assert adapt(user_model(), 10, name="other").name == "other"
    outputs = peer(pixels())
    for stage in stages(peer):
        found = between(peer, stage, "logits")(outputs[stage])
        np.testing.assert_allclose(found, outputs["logits"], rtol=1e-4, atol=1e-4)
    joined = keras.Model(peer.input, peer.get_layer("join").output)(pixels())
    np.testing.assert_array_equal(joined, outputs["stage1"])


def test_an_adapted_model_keeps_its_statistics_dropout_and_frozen_layers():
    peer = adapt(user_model(), 10)
    mean = peer.get_layer("statistics").moving_mean
    np.testing.assert_array_equal(mean, noise((6,)))
    before = peer(pixels())["features"]
    assert np.abs(peer(pixels(), training=True)["features"] - before).max() > 1
    assert np.abs(mean - noise((6,))).max() > 0.1
    assert len(peer.get_layer("frozen").trainable_variables) == 0
    assert len(peer.trainable_variables) == 8


def test_peers_of_one_model_share_nothing_with_each_other_or_with_it():
    model = user_model()
    weights = model.get_weights()
    peers = [adapt(model, 10), adapt(model, 10)]
    for variable in peers[0].variables:
        variable.assign(variable + 1)
    for kept, weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(kept, weight)
    for kept, weight in zip(peers[1].get_weights(), weights, strict=False):
        np.testing.assert_array_equal(kept, weight)


@pytest.mark.parametrize(
    ("preprocess", "reference"),
    [
        (keras.applications.mobilenet_v2.preprocess_input, lambda x: x / 127.5 - 1),
        (keras.applications.mobilenet_v3.preprocess_input, lambda x: x),
        (
            keras.applications.vgg16.preprocess_input,
            lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
        ),
        (keras.layers.Rescaling(1 / 255), lambda x: x / 255),
    ],
)
def test_pixels_are_preprocessed_before_the_model(preprocess, reference, tmp_path):
    model = user_model()
    peer = adapt(model, 10, stages={"stem": "first"}, preprocess=preprocess)
    expected = np.mean(model(reference(pixels().astype("float64"))), axis=(1, 2))
    np.testing.assert_allclose(peer(pixels())["features"], expected, rtol=1e-3, atol=1e-3)
    peer.save(tmp_path / "peer.keras")
    assert_equal_outputs(keras.models.load_model(tmp_path / "peer.keras"), peer)


def test_a_sequential_model_becomes_a_peer():
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="only")]
    model = keras.Sequential([*layers, keras.layers.Flatten()])
    peer = adapt(model, 10, stages={"stage1": "only"})
    outputs = peer(pixels())
    np.testing.assert_array_equal(outputs["features"], model(pixels().astype("float32")))
    assert outputs["stage1"].shape == (4, 6, 6, 4)


class Subclassed(keras.Model):
    def call(self, images):
        return images


def unfit_model(kind: str) -> keras.Model:
    images, others, rows = keras.Input((8, 8, 3)), keras.Input((8, 8, 3)), keras.Input((8, 3))
    return {
        "subclassed": Subclassed,
        "unbuilt": lambda: keras.Sequential([keras.layers.Flatten()]),
        "two inputs": lambda: keras.Model([images, others], images + others),
        "no images": lambda: keras.Model(rows, keras.layers.Flatten()(rows)),
        "two outputs": lambda: keras.Model(images, {"one": images, "two": -images}),
        "rows": lambda: keras.Model(images, keras.layers.Reshape((8, 24))(images)),
    }[kind]()


@pytest.mark.parametrize(
    "kind", ["subclassed", "unbuilt", "two inputs", "no images", "two outputs", "rows"]
)
def test_a_model_that_is_not_from_images_to_features_is_refused(kind):
    with pytest.raises(ValueError, match=r"one input \[B, H, W, C\] to one output"):
        adapt(unfit_model(kind), 10)


@pytest.mark.parametrize(
    ("stage_ends", "message"),
    [
        ({"stage2": "first"}, "without a gap.* Received: stage2"),
        ({"stem": "first", "stage2": "join"}, "without a gap"),
        ({"stage1": "first", "block": "join"}, "without a gap.* Received: stage1, block"),
        ({"stage1": "second"}, "stage1 ends at the layer 'second', which.*'first', 'inside'"),
        ({"stage1": "inside"}, "stage1 cannot end at the layer 'inside'"),
        ({"stem": "inside", "stage1": "join"}, "stem cannot end at the layer 'inside'"),
        ({"stage1": "join", "stage2": "first"}, "stage1 cannot end at the layer 'join'"),
        ({"stem": "first", "stage1": "first"}, "stem cannot end at the layer 'first'"),
        ({"stage1": "flat"}, "stage1 must end at a map"),
    ],
)
def test_a_stage_that_is_no_cut_is_refused(stage_ends, message):
    model = user_model()
    flat = keras.Model(model.input, keras.layers.Flatten(name="flat")(model.output))
    with pytest.raises(ValueError, match=message):
        adapt(flat, 10, stages=stage_ends)


def test_an_adapted_model_tells_apart_two_classes_or_more():
    with pytest.raises(ValueError, match="num_classes=1"):
        adapt(user_model(), 1)
