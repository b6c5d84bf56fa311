"""A network by its name: endpoints, stages, precision, compiling, saving."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import (
    assert_equal_outputs,
    between,
    pixels,
    small_network,
)
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import stages

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

    random.seed(3)
    first, second = build(), build()
    random.seed(3)
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
