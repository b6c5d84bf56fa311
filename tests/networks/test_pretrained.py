"""Weights to start from, and what of them stays."""

import json
import pathlib
import random

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import assert_equal_outputs, pixels
from tests.tiny_peers import tiny_peer
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import pretrained, served


@pytest.fixture(scope="module")
def sources() -> list[keras.Model]:
    random.seed(5)
    networks = [tiny_peer(), tiny_peer()]
    noise = np.random.default_rng(0)
    for network in networks:  # BatchNormalization's four begin as 0 and 1
        network.set_weights([w + noise.uniform(0, 0.5, w.shape) for w in network.get_weights()])
    return networks


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


@pytest.mark.parametrize("name", ["other.keras", "other.weights.h5"])
def test_a_classifier_of_other_classes_stays_fresh(name, tmp_path):
    other = build_network("resnet8", (12, 12, 3), 4)
    (other.save if name.endswith(".keras") else other.save_weights)(tmp_path / name)
    network = build_network("resnet8", (8, 8, 3), 10)
    fresh = network.get_layer("logits").get_weights()
    pretrained.load([network], str(tmp_path / name))
    np.testing.assert_equal(network.get_weights()[:-2], other.get_weights()[:-2])
    np.testing.assert_equal(network.get_layer("logits").get_weights(), fresh)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "whole.h5", "weights_alone.h5"])
def test_a_classifier_of_other_layers_is_left_out(name, sources, tmp_path):
    x = keras.layers.Dense(5, "relu")(sources[0].output["features"])
    whole = keras.Model(sources[0].input, keras.layers.Dense(3, "softmax")(x))
    if name == "a.weights.h5":
        whole.save_weights(tmp_path / name)
    else:
        whole.save(tmp_path / name.replace("weights_alone", "whole"))
    if name == "weights_alone.h5":  # as Keras wrote them before version 3
        with h5py.File(tmp_path / "whole.h5") as file, h5py.File(tmp_path / name, "w") as weights:
            weights.attrs.update(file["model_weights"].attrs)
            for layer in file["model_weights"]:
                file.copy(f"model_weights/{layer}", weights)
    network = tiny_peer()
    fresh = network.layers[-1].get_weights()
    pretrained.load([network], str(tmp_path / name))
    assert_features_alone(network, sources[0])
    np.testing.assert_equal(network.layers[-1].get_weights(), fresh)


EXPORT = str(pathlib.Path(__file__).parents[2] / "savedmodels" / "digits_resnet8" / "1")


def test_an_export_of_as_many_networks_gives_each_its_own():
    record = json.loads(pathlib.Path(EXPORT, "assets", "export.json").read_text())
    normalisations = record["normalisation"]["of_each"]
    networks = [build_network("resnet8", (8, 8, 3), 10, **of) for of in normalisations]
    pretrained.load(networks, EXPORT)
    images = pixels()
    expected = served.load(EXPORT, "x").predict(images=tf.constant(images))["probabilities"]
    each = [tf.nn.softmax(network(images)["logits"]) for network in networks]
    np.testing.assert_allclose((each[0] + each[1]) / 2, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 0.01


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(InputError, match="not those of"):
        pretrained.load([tiny_peer()], EXPORT)
    with pytest.raises(InputError, match="not those of"):  # they are of two
        pretrained.load([build_network("resnet8", (8, 8, 3), 10)], EXPORT)
    tiny_peer(size=7).save(tmp_path / "other.keras")
    tiny_peer(size=7).save_weights(tmp_path / "other.weights.h5")
    for name in ("other.keras", "other.weights.h5"):
        with pytest.raises(InputError, match="name weights of the same network"):
            pretrained.load([tiny_peer()], str(tmp_path / name))


def test_what_others_keep_in_folders_is_refused_with_what_to_do(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"hub is a SavedModel of another .*model.save\('model"):
        pretrained.load([tiny_peer()], str(tmp_path / "hub"))
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "model.weights.h5").touch()
    with pytest.raises(
        InputError, match=r"preset of KerasHub.*--arch=module:function.*from_preset"
    ):
        pretrained.load([tiny_peer()], str(tmp_path / "preset"))


@pytest.mark.parametrize(
    "name", ["broken.keras", "broken.weights.h5", "broken.h5", "broken.safetensors", "no_folder"]
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(name, tmp_path):
    if "." in name:
        (tmp_path / name).write_bytes(b"not a file of Keras")
    with pytest.raises(InputError, match=f"--weights_from=.*{name} cannot be used") as caught:
        pretrained.load([build_network("resnet8", (9, 9, 3), 10)], str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "kept"), [("batchnorm", 8), ("backbone", 13)])
def test_training_leaves_what_is_frozen_as_it_is(part, kept):
    network = tiny_peer()
    pretrained.freeze([network], part)
    before = network.get_weights()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(pixels(), training=True)["logits"] ** 2)
    keras.optimizers.SGD(0.1).apply(
        tape.gradient(loss, network.trainable_variables), network.trainable_variables
    )
    same = [np.array_equal(*pair) for pair in zip(network.get_weights(), before, strict=True)]
    assert sum(same) == kept
    assert not any(same[-2:])
