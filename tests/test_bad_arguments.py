"""Arguments of another type or shape: a line that says what was passed, before anything is made."""

import keras
import numpy as np
import pytest
from tiny_networks import tiny

from tests.tiny_peers import tiny_peer
from tf_cutnmix import (
    Config,
    CropAndFlip,
    CutMix,
    CutNMix,
    Method,
    MixUp,
    OnlineDistiller,
    adapt,
    build_network,
    mix_dataset,
    share_stages,
    train_and_evaluate,
)

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def peer() -> keras.Model:
    return tiny_peer()


def refusal(function, *arguments, **settings) -> str:
    with pytest.raises((ValueError, TypeError)) as caught:
        function(*arguments, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        (CutNMix, {"num_peers": "2"}),
        (CutNMix, {"num_peers": 2.5}),
        (CutNMix, {"num_peers": None}),
        (CutNMix, {"num_peers": 2, "regions": 3}),
        (CutMix, {"alpha": "x"}),
        (CutMix, {"num_classes": "10"}),
        (CutMix, {"num_classes": 2.5}),
        (CutMix, {"seed": "x"}),
        (CutMix, {"seed": 1.5}),
        (CutMix, {"seed": -1}),
        (CutMix, {"seed": 2**70}),
        (CutMix, {"probability": float("nan")}),
        (CutMix, {"until_step": "x"}),
        (CutMix, {"ratio_per": None}),
        (MixUp, {"alpha": None}),
        (CropAndFlip, {"crop": "x"}),
    ],
)
def test_a_layer_is_not_made_of_what_is_no_setting(layer, settings):
    refusal(layer, **settings)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((None, SHAPE, 10), {}),
        (("resnet8", 32, 10), {}),
        (("resnet8", (32, 32), 10), {}),
        (("resnet8", (0, 32, 3), 10), {}),
        (("resnet8", (-1, 32, 3), 10), {}),
        (("resnet8", ("32", 32, 3), 10), {}),
        (("resnet8", SHAPE, "10"), {}),
        (("resnet8", SHAPE, 1), {}),
        (("resnet8", SHAPE, None), {}),
        (("resnet8", SHAPE, 10), {"mean": (1, 2)}),
        (("resnet8", SHAPE, 10), {"deviation": 0}),
        (("resnet8", SHAPE, 10), {"deviation": float("nan")}),
        (("resnet8", SHAPE, 10), {"weights": 3}),
    ],
)
def test_a_network_is_not_built_of_what_is_no_setting(arguments, settings):
    refusal(build_network, *arguments, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": None},
        {"temperature": "hot"},
        {"weights": 3},
        {"weights": {"teacher": "x"}},
        {"ramp_steps": "x"},
        {"options": 3},
        {"class_weights": "x"},
        {"class_weights": [float("nan")]},
        {"class_weights": [-1.0]},
        {"class_names": 3},
    ],
)
def test_a_method_is_not_made_of_what_is_no_setting(settings):
    refusal(Method, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": "x"},
        {"epochs": 1.5},
        {"epochs": None},
        {"epochs": True},
        {"restarts": "9" * 5000},
        {"arch": ["resnet8"]},
        {"learning_rate": "0.1"},
        {"learning_rate": np.float32("nan")},
        {"nonsense": 1},
    ],
)
def test_settings_of_another_type_are_refused(settings):
    refusal(Config, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mixing": 3}, "mixing must be a layer"),
        ({"mixing": CutMix}, "mixing must be a layer"),
        ({"augment": 3}, "augment must be a layer"),
        ({"method": 3}, "a method is given by its name"),
        ({"method": None}, "a method is given by its name"),
        ({"momentum": "x"}, ""),
        ({"momentum": float("nan")}, "momentum must be"),
        ({"weight_decay": "x"}, ""),
    ],
)
def test_a_distiller_is_not_made_of_what_is_no_setting(peer, settings, words):
    assert words in refusal(OnlineDistiller, [peer], **{"method": "independent", **settings})


@pytest.mark.parametrize("peers", [None, [], "resnet8", [1, 2]])
def test_peers_are_models(peers):
    refusal(OnlineDistiller, peers)
    refusal(share_stages, peers, "stage1")


def test_peers_take_images_of_one_size(peer):
    assert "images of one size" in refusal(OnlineDistiller, [peer, tiny((16, 16, 3))])


@pytest.mark.parametrize("stage", [1, None, "stage99"])
def test_a_stage_that_no_peer_has_is_not_shared(stage):
    assert "has the stages stem" in refusal(share_stages, [tiny_peer(), tiny_peer()], stage)


@pytest.mark.parametrize("config", [None, {"epochs": 1}, "digits"])
def test_a_run_is_given_by_its_config(config):
    assert "given by its Config" in refusal(train_and_evaluate, config)


@pytest.mark.parametrize("other", [None, "resnet8", 3])
def test_what_is_no_model_or_layer_is_not_taken_for_one(other):
    refusal(adapt, other, 10)
    refusal(mix_dataset, other)
