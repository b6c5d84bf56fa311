"""Weights to start from, and what of them stays."""

import random

import keras
import numpy as np
import pytest

from tests.networks.small_networks import assert_equal_outputs, pixels
from tests.tiny_peers import tiny_peer
from tf_cutnmix import CutNMix, OnlineDistiller, build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import pretrained
from tf_cutnmix.serving import export


@pytest.fixture(scope="module")
def sources() -> list[keras.Model]:
    random.seed(5)
    return [tiny_peer(), tiny_peer()]


def assert_features_alone(found: keras.Model, expected: keras.Model) -> None:
    found, expected = found(pixels()), expected(pixels())
    np.testing.assert_array_equal(found["features"], expected["features"])
    assert np.abs(found["logits"] - expected["logits"]).max() > 0.01


@pytest.mark.parametrize("name", ["whole.keras", "whole.weights.h5"])
def test_files_of_keras_give_each_network_their_weights(sources, name, tmp_path):
    save = sources[0].save if name.endswith(".keras") else sources[0].save_weights
    save(tmp_path / name)
    networks = [tiny_peer(), tiny_peer()]
    pretrained.load(networks, str(tmp_path / name))
    for network in networks:
        assert_equal_outputs(network, sources[0])


def test_what_comes_before_the_classifier_is_enough(sources, tmp_path):
    trunk = keras.Model(sources[0].input, sources[0].output["features"])
    trunk.save(tmp_path / "trunk.keras")
    network = tiny_peer()
    pretrained.load([network], str(tmp_path / "trunk.keras"))
    assert_features_alone(network, sources[0])


def test_a_classifier_of_other_classes_stays_fresh(tmp_path):
    other = build_network("resnet8", (8, 8, 3), 4)
    other.save(tmp_path / "other.keras")
    network = build_network("resnet8", (8, 8, 3), 10)
    fresh = network.get_layer("logits").get_weights()
    pretrained.load([network], str(tmp_path / "other.keras"))
    features = [model(pixels())["features"] for model in (network, other)]
    np.testing.assert_array_equal(*features)
    np.testing.assert_equal(network.get_layer("logits").get_weights(), fresh)


@pytest.fixture(scope="module")
def exported(sources, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("export") / "both"
    names = [str(number) for number in range(10)]
    return str(export(sources, folder, names, pixels((2, 8, 8, 3))))


@pytest.mark.long
def test_an_export_of_as_many_networks_gives_each_its_own(sources, exported):
    networks = [tiny_peer(), tiny_peer()]
    pretrained.load(networks, exported)
    for network, source in zip(networks, sources, strict=True):
        assert_equal_outputs(network, source)


def test_weights_of_another_network_are_refused(exported, tmp_path):
    with pytest.raises(InputError, match="not those of"):
        pretrained.load([tiny_peer()], exported)
    tiny_peer(size=7).save(tmp_path / "other.keras")
    with pytest.raises(InputError, match="name weights of the same network"):
        pretrained.load([tiny_peer()], str(tmp_path / "other.keras"))


@pytest.mark.parametrize("name", ["broken.keras", "broken.weights.h5", "no_such_folder"])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(name, tmp_path):
    if "." in name:
        (tmp_path / name).write_bytes(b"not a file of Keras")
    with pytest.raises(InputError, match=f"--weights_from=.*{name} cannot be used") as caught:
        pretrained.load([tiny_peer()], str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize(("part", "kept"), [("batchnorm", 8), ("backbone", 13)])
def test_training_leaves_what_is_frozen_as_it_is(part, kept):
    peers = [tiny_peer(), tiny_peer()]
    pretrained.freeze(peers, part)
    model = OnlineDistiller(peers, CutNMix(num_peers=2, num_classes=10, seed=0), "cutnmix")
    model.compile(keras.optimizers.SGD(0.1))
    networks = [model.peers[0], model.averages[0]]
    before = [network.get_weights() for network in networks]
    model.fit(pixels((8, 8, 8, 3)), np.arange(8), batch_size=4, verbose=0)
    for network, old in zip(networks, before, strict=True):
        same = [np.array_equal(*pair) for pair in zip(network.get_weights(), old, strict=True)]
        assert sum(same) == kept
        if part == "backbone":
            assert not any(same[-2:])
