"""A network by its name: endpoints, stages, precision, compiling, saving; Keras', the user's."""

import functools
import inspect
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import (
    SCALES,
    assert_equal_outputs,
    between,
    pixels,
    small_network,
)
from tests.tiny_peers import tiny_peer
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import pretrained, registry, stages
from tf_cutnmix.networks.registry import find


@pytest.mark.parametrize("name", SCALES)
def test_endpoints_come_in_order_and_in_the_resolution_of_their_stage(name):
    height, width = 33, 7
    network = build_network(name, (height, width, 1), 2)
    expected = {
        stage: (-(-height // scale), -(-width // scale)) for stage, scale in SCALES[name].items()
    }
    assert list(network.output) == [*expected, "features", "logits"]
    assert stages(network) == tuple(expected)
    outputs = network(pixels((2, height, width, 1)))
    assert {stage: outputs[stage].shape[1:3] for stage in expected} == expected
    assert outputs["logits"].shape == (2, 2)
    if name != "vgg11":
        mean = np.mean(outputs[list(expected)[-1]], axis=(1, 2))
        np.testing.assert_allclose(outputs["features"], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCALES)
def test_each_stage_is_a_cut_and_a_gradient_reaches_every_weight(name):
    network = small_network(name)
    expected = network(pixels())
    for stage in stages(network):
        found = between(network, stage, "logits")(expected[stage])
        np.testing.assert_allclose(found, expected["logits"], rtol=1e-4, atol=1e-5)
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 1}, "num_classes=1"),
        ({"name": None}, "a network is given by its name, such as 'resnet20'. Received: None"),
        ({"input_shape": (0, 8, 3)}, "input_shape must be sizes of 1 or more"),
        ({"deviation": float("nan")}, "deviation must be above 0. Received: nan"),
    ],
)
def test_a_network_is_not_built_of_what_is_no_setting(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        build_network(**{"name": "resnet8", "input_shape": (8, 8, 3), "num_classes": 10, **changes})


def test_pixels_are_normalised_by_mean_and_deviation_of_each_channel():
    mean, deviation = np.array([125.3, 123.0, 113.9]), np.array([63.0, 62.1, 66.7])
    built = build_network("resnet8", (8, 8, 3), 10, mean=mean, deviation=deviation)
    normalise = keras.Model(built.input, built.get_layer("normalisation").output)
    found = normalise(pixels())
    np.testing.assert_allclose(found, (pixels() - mean) / deviation, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet8", "shufflenet_v2_x0.5"])
def test_a_saved_network_gives_equal_outputs(name, tmp_path):
    """These have operations of Keras, not layers alone."""
    network = small_network(name)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert stages(loaded) == stages(network)
    assert_equal_outputs(loaded, network)


@pytest.mark.parametrize("name", ["resnet8", "shufflenet_v2_x0.5"])
def test_the_last_stage_and_its_gradients_compile_under_xla(name):
    """These have operations of Keras, not layers alone."""
    network = small_network(name)
    start = stages(network)[-2]
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


def test_the_same_seed_gives_the_same_weights_and_two_networks_differ():
    def build() -> list[np.ndarray]:
        return build_network("resnet8", (8, 8, 3), 10).get_weights()

    random.seed(3)
    first, second = build(), build()
    random.seed(3)
    again = build()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], second[0])


@pytest.mark.parametrize(
    ("name", "precision"),
    [("resnet8", "mixed_bfloat16"), ("mobilenet_v2_x0.1", "mixed_float16")],
)
def test_a_network_computes_in_mixed_precision_but_weights_and_normalisation(name, precision):
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
    assert {variable.dtype for variable in half.variables} == {"float32"}
    assert half.get_layer("normalisation").compute_dtype == "float32"
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(
        tf.cast(found["logits"], "float32"), expected["logits"], atol=0.1 * scale
    )
    from_floats = half(pixels().astype("float32"))
    np.testing.assert_array_equal(from_floats["logits"], found["logits"])


# Keras'


SMALLEST = {"keras_inception_v3": 75, "keras_inception_resnet_v2": 75, "keras_xception": 71}
# What takes minutes to build here.
HUGE = ("keras_convnext_large", "keras_convnext_xlarge", "keras_nasnet_large")


def test_names_are_those_of_keras_in_small_letters():
    assert len(registry.KERAS_NAMES) == 40  # docs/own_model.md has them all
    assert {
        *("keras_convnext_tiny", "keras_densenet121", "keras_efficientnet_v2_b0"),
        *("keras_inception_resnet_v2", "keras_mobilenet_v3_small", "keras_nasnet_mobile"),
        *("keras_resnet50_v2", "keras_vgg16", "keras_xception"),
    } <= set(registry.KERAS_NAMES)


def check(name: str) -> None:
    """It gives the features of Keras' own function and can be cut at its stages."""
    size = SMALLEST.get(name, 32)
    images = pixels((2, size, size, 3))
    network = build_network(name, (size, size, 3), 7)
    function = registry.KERAS_NAMES[name]
    original = function(include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3))
    module = function.__module__.rpartition(".")[2]
    preprocess = getattr(keras.applications, module).preprocess_input
    original.set_weights(network.get_weights()[:-2])
    outputs = network(images)
    expected = original(preprocess(images.astype("float32")))
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-3, atol=1e-3)
    assert outputs["logits"].shape == (2, 7)
    heights = [outputs[stage].shape[1] for stage in stages(network)]
    assert heights == sorted(set(heights), reverse=True)
    assert len(heights) >= 2
    found = between(network, "stage1", "logits")(outputs["stage1"])
    np.testing.assert_allclose(found, outputs["logits"], rtol=1e-3, atol=1e-3)


def test_a_network_is_keras_own_with_its_preprocessing():
    check("keras_mobilenet_v3_small")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in registry.KERAS_NAMES if name not in HUGE])
def test_each_network_is_keras_own_with_its_preprocessing(name):
    check(name)
    keras.utils.clear_session()


def test_images_that_are_too_small_are_refused_with_the_smallest_size():
    with pytest.raises(InputError, match=r"at least 75x75.*pass --image_size"):
        build_network("keras_inception_v3", (32, 32, 3), 10)


def test_weights_that_cannot_be_downloaded_are_one_line(tmp_path, monkeypatch):
    module = inspect.getmodule(inspect.unwrap(keras.applications.MobileNetV3Small))
    # A port on which nothing listens.
    monkeypatch.setattr(module, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(InputError, match="imagenet weights of keras_mobilenet_v3_small cannot"):
        build_network("keras_mobilenet_v3_small", (32, 32, 3), 10, weights="imagenet")


@pytest.mark.long
def test_efficientnet_normalises_as_keras_whatever_it_starts_from(tmp_path, monkeypatch):
    function = functools.partial(
        keras.applications.EfficientNetB0, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    file = tmp_path / "made.weights.h5"
    made = function(weights=None)
    values = made.get_weights()
    values[:2] = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    made.set_weights(values)
    made.save_weights(file)
    module = inspect.getmodule(inspect.unwrap(keras.applications.EfficientNetB0))
    monkeypatch.setattr(module.file_utils, "get_file", lambda *args, **kwargs: str(file))
    expected = function(weights="imagenet")(pixels((2, 32, 32, 3)).astype("float32"))
    name = "keras_efficientnet_b0"
    downloaded = build_network(name, (32, 32, 3), 10, weights="imagenet")
    loaded = build_network(name, (32, 32, 3), 10)
    pretrained.load([loaded], str(file))
    anew = build_network(name, (32, 32, 3), 10)  # as to export what was trained
    anew.set_weights(downloaded.get_weights())
    for network in (downloaded, loaded, anew):
        found = network(pixels((2, 32, 32, 3)))["features"]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet8", "my_networks:f"])
def test_other_networks_have_no_imagenet_weights(name):
    with pytest.raises(
        InputError, match="no imagenet weights: networks that have begin with keras"
    ):
        find(name, "imagenet")


# The user's


MODULE = """
import keras
from tests.tiny_peers import tiny_peer

number = 3

def backbone(input_shape, num_classes):
    layers = [keras.layers.Conv2D(4, 3, name="only"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input(input_shape), *layers])

def peer(input_shape, num_classes):
    return tiny_peer()

def with_classifier(input_shape, num_classes):
    return keras.Sequential([backbone(input_shape, 0), keras.layers.Dense(num_classes)])

def without_logits(input_shape, num_classes):
    whole = tiny_peer()
    return keras.Model(whole.input, {"features": whole.output["features"]})

def failing(input_shape, num_classes):
    raise KeyError("no such size\\nof images")

def nothing(input_shape, num_classes):
    pass

def rows(input_shape, num_classes):
    return keras.Sequential([keras.Input((8, 3)), keras.layers.Flatten()])
"""


@pytest.fixture
def _module(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(MODULE)
    (tmp_path / "my_broken.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_module")
def test_a_function_builds_the_network_of_its_name():
    random.seed(3)
    network = build_network("my_networks:backbone", (8, 8, 3), 7)
    assert network.output["features"].shape == (None, 4)
    assert network.output["logits"].shape == (None, 7)
    assert stages(network) == ("stage1",)
    layers = (network.get_layer("only"), keras.layers.GlobalAveragePooling2D())
    expected = keras.Sequential(layers)(pixels().astype("float32"))
    np.testing.assert_array_equal(network(pixels())["features"], expected)
    whole = build_network("my_networks:peer", (8, 8, 3), 10)
    assert list(whole.output) == list(tiny_peer().output)


@pytest.mark.usefixtures("_module")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:f", "cannot import 'no_such_module': No module named"),
        ("my_broken:f", "cannot import 'my_broken': No module named 'no_such_package'"),
        ("my_networks:", "my_networks has no function ''"),
        ("my_networks:number", "my_networks has no function 'number'"),
        ("my_networks:failing", r"failed for \(8, 8, 3\) and 10 classes: KeyError"),
        ("my_networks:nothing", "returned a NoneType, not a keras.Model"),
        ("my_networks:with_classifier", "ends in 10 numbers.*without its classifier"),
        ("my_networks:without_logits", 'returned the endpoints features.*"logits"'),
        ("my_networks:rows", r"adapt needs a functional model from one input \[B, H, W, C\]"),
    ],
)
def test_what_a_name_does_not_say_is_refused_in_one_line(name, words):
    with pytest.raises(InputError, match=words) as caught:
        build_network(name, (8, 8, 3), 10)
    assert "\n" not in str(caught.value)
