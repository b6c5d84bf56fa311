"""Networks by name: sizes from the paper, inputs of any kind, errors, saving, precisions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError


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


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network("resnet8", (8, 8, 3), 10)


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


def test_there_are_as_many_weight_layers_as_the_name_says():
    layers = build_network("resnet20", (32, 32, 3), 10).layers
    weighted = [x for x in layers if isinstance(x, keras.layers.Conv2D | keras.layers.Dense)]
    assert len(weighted) == 20


@pytest.mark.parametrize("shape", [(8, 8, 3), (28, 20, 3), (33, 7, 3)])
@pytest.mark.parametrize("num_classes", [2, 37])
def test_images_of_any_size_and_any_number_of_classes(shape, num_classes):
    outputs = build_network("resnet8", shape, num_classes)(pixels((2, *shape)))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "features": (2, 64),
        "logits": (2, num_classes),
    }


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


@pytest.mark.parametrize(
    ("name", "suggestions"),
    [
        ("resnet57", ["resnet56", "resnet62"]),
        ("resnet9", ["resnet8", "resnet14"]),
        ("resnet2", ["resnet8", "resnet14"]),
        ("resnet0", ["resnet8", "resnet14"]),
        ("resnet109", ["resnet104", "resnet110"]),
    ],
)
def test_a_depth_that_is_not_6n_plus_2_is_refused_with_the_nearest_ones(name, suggestions):
    with pytest.raises(InputError, match=r"6n\+2") as error:
        build_network(name, (8, 8, 3), 10)
    assert name in str(error.value)
    assert all(suggestion in str(error.value) for suggestion in suggestions)


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnett20", "resnet20"), ("ResNet-56", "resnet56")]
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(InputError, match="did you mean") as error:
        build_network(name, (8, 8, 3), 10)
    assert repr(name) in str(error.value)
    assert repr(nearest) in str(error.value)


def test_a_name_that_is_near_none_is_refused_with_all_of_them():
    with pytest.raises(InputError, match=r"resnet110.*resnet8"):
        build_network("mlp", (8, 8, 3), 10)


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


def test_a_saved_network_gives_equal_outputs(network, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    expected, found = network(pixels()), loaded(pixels())
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_network_compiles_under_xla(network):
    compiled = tf.function(lambda images: network(images), jit_compile=True)(pixels())
    expected = network(pixels())
    for name in expected:
        np.testing.assert_allclose(compiled[name], expected[name], rtol=1e-4, atol=1e-4)


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
