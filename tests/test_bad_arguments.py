"""Arguments of another type or shape: a line that says what was passed, before anything is made."""

import keras
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
NAN = float("nan")


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
    ("made", "settings"),
    [
        (CutNMix, {"num_peers": "2"}),
        (CutNMix, {"num_peers": 2.5}),
        (CutNMix, {"num_peers": 2, "regions": 3}),
        (CutMix, {"alpha": "x"}),
        (CutMix, {"num_classes": "10"}),
        (CutMix, {"seed": 1.5}),
        (CutMix, {"seed": 2**70}),
        (CutMix, {"probability": NAN}),
        (CutMix, {"until_step": "x"}),
        (CutMix, {"ratio_per": None}),
        (MixUp, {"alpha": None}),
        (CropAndFlip, {"crop": "x"}),
        (Method, {"name": None}),
        (Method, {"temperature": "hot"}),
        (Method, {"weights": 3}),
        (Method, {"weights": {"teacher": "x"}}),
        (Method, {"ramp_steps": "x"}),
        (Method, {"options": 3}),
        (Method, {"class_weights": [NAN]}),
        (Method, {"class_weights": [-1.0]}),
        (Method, {"class_names": 3}),
        (Config, {"epochs": "x"}),
        (Config, {"learning_rate": NAN}),
        (Config, {"nonsense": 1}),
    ],
)
def test_nothing_is_made_of_what_is_no_setting(made, settings):
    refusal(made, **settings)


@pytest.mark.parametrize(
    ("name", "input_shape", "num_classes"),
    [
        (None, SHAPE, 10),
        ("resnet8", 32, 10),
        ("resnet8", (32, 32), 10),
        ("resnet8", (0, 32, 3), 10),
        ("resnet8", ("32", 32, 3), 10),
        ("resnet8", SHAPE, "10"),
        ("resnet8", SHAPE, 1),
    ],
)
def test_a_network_is_not_built_of_what_is_no_setting(name, input_shape, num_classes):
    refusal(build_network, name, input_shape, num_classes)


@pytest.mark.parametrize(
    "settings", [{"mean": (1, 2)}, {"deviation": 0}, {"deviation": NAN}, {"weights": 3}]
)
def test_pixels_are_not_normalised_by_what_is_no_setting(settings):
    refusal(build_network, "resnet8", SHAPE, 10, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mixing": CutMix}, "mixing must be a layer"),
        ({"augment": 3}, "augment must be a layer"),
        ({"method": None}, "a method is given by its name"),
        ({"momentum": "x"}, ""),
        ({"momentum": NAN}, "momentum must be"),
        ({"weight_decay": "x"}, ""),
    ],
)
def test_a_distiller_is_not_made_of_what_is_no_setting(peer, settings, words):
    assert words in refusal(OnlineDistiller, [peer], **{"method": "independent", **settings})


def test_peers_are_models_that_take_images_of_one_size(peer):
    for peers in (None, [], "resnet8", [1, 2]):
        refusal(OnlineDistiller, peers)
        refusal(share_stages, peers, "stage1")
    assert "images of one size" in refusal(OnlineDistiller, [peer, tiny((16, 16, 3))])
    for stage in (1, None, "stage99"):
        assert "has the stages stem" in refusal(share_stages, [tiny_peer(), tiny_peer()], stage)


@pytest.mark.parametrize("other", [None, {"epochs": 1}, "digits"])
def test_what_is_no_config_model_or_layer_is_not_taken_for_one(other):
    assert "given by its Config" in refusal(train_and_evaluate, other)
    refusal(adapt, other, 10)
    refusal(mix_dataset, other)
