"""The networks of `keras.applications` by name."""

import inspect

import keras
import numpy as np
import pytest

from tests.networks.small_networks import between, pixels
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import build, stages
from tf_cutnmix.networks.build import find

SMALLEST = {"keras_inception_v3": 75, "keras_inception_resnet_v2": 75, "keras_xception": 71}
# What takes minutes to build here.
HUGE = ("keras_convnext_large", "keras_convnext_xlarge", "keras_nasnet_large")


def test_every_network_of_keras_has_a_name():
    functions = {
        name
        for name, function in vars(keras.applications).items()
        if inspect.isfunction(function) and "include_top" in inspect.signature(function).parameters
    }
    assert {application for _, application in build.KERAS_NAMES.values()} == functions


def test_names_are_keras_own_in_small_letters():
    assert {"keras_mobilenet_v3_small", "keras_efficientnet_v2_b0"} <= set(build.KERAS_NAMES)
    assert {"keras_resnet50_v2", "keras_vgg16", "keras_convnext_tiny"} <= set(build.KERAS_NAMES)
    assert {"keras_inception_resnet_v2", "keras_nasnet_mobile"} <= set(build.KERAS_NAMES)


def check(name: str) -> None:
    """It gives the features of Keras' own function and can be cut at its stages."""
    size = SMALLEST.get(name, 32)
    images = pixels((2, size, size, 3))
    network = build_network(name, (size, size, 3), 7)
    module, application = build.KERAS_NAMES[name]
    original = getattr(keras.applications, application)(
        include_top=False, weights=None, input_shape=(size, size, 3)
    )
    preprocess = getattr(keras.applications, module).preprocess_input
    original.set_weights(network.get_weights()[:-2])
    outputs = network(images)
    expected = np.mean(original(preprocess(images.astype("float32"))), axis=(1, 2))
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-3, atol=1e-3)
    assert outputs["logits"].shape == (2, 7)
    heights = [outputs[stage].shape[1] for stage in stages(network)]
    assert heights == sorted(set(heights), reverse=True)
    assert len(heights) >= 2
    found = between(network, "stage1", "logits")(outputs["stage1"])
    np.testing.assert_allclose(found, outputs["logits"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["keras_mobilenet_v3_small", "keras_vgg16"])
def test_a_network_is_keras_own_with_its_preprocessing(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in build.KERAS_NAMES if name not in HUGE])
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


@pytest.mark.parametrize("name", ["resnet8", "my_networks:f"])
def test_other_networks_have_no_imagenet_weights(name):
    with pytest.raises(
        InputError, match="no imagenet weights: networks that have begin with keras"
    ):
        find(name, "imagenet")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'keras_mobilenet_v2'"):
        find("keras_mobilenetv2")
