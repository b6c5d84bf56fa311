"""A function of the user's by its name."""

import random

import numpy as np
import pytest

from tests.networks.small_networks import pixels
from tests.tiny_peers import tiny_peer
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import stages

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


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(MODULE)
    (tmp_path / "my_broken.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_function_builds_the_network_of_its_name():
    random.seed(3)
    network = build_network("my_networks:backbone", (8, 8, 3), 7)
    assert network.output["features"].shape == (None, 4)
    assert network.output["logits"].shape == (None, 7)
    assert stages(network) == ("stage1",)
    kernel, bias = network.get_layer("only").get_weights()
    patches = np.lib.stride_tricks.sliding_window_view(pixels().astype(float), (3, 3, 3), (1, 2, 3))
    maps = np.einsum("bhwkijc,ijcd->bhwd", patches, kernel) + bias
    expected = maps.mean(axis=(1, 2))
    np.testing.assert_allclose(network(pixels())["features"], expected, rtol=1e-4, atol=1e-3)


def test_a_whole_peer_stays_as_it_is():
    network = build_network("my_networks:peer", (8, 8, 3), 10)
    assert list(network.output) == list(tiny_peer().output)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:f", "cannot import 'no_such_module': No module named"),
        ("my_broken:f", "cannot import 'my_broken': No module named 'no_such_package'"),
        ("my_networks:", "my_networks has no function ''"),
        ("my_networks:number", "my_networks has no function 'number'"),
        ("my_networks:failing", r"failing\(\(8, 8, 3\), 10\) failed: KeyError"),
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
