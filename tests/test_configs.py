"""Every shipped flagfile parses, says how it is run, and builds its model."""

import pathlib

import numpy as np
import pytest

from tf_cutnmix import command
from tf_cutnmix.config import Config
from tf_cutnmix.data import Images
from tf_cutnmix.experiment import build_model

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.cfg"))


def read(path: pathlib.Path, *flags: str) -> Config:
    return command.parse(Config, [f"--flagfile={path}", *flags])


def test_both_data_sets_have_a_config_for_three_depths():
    expected = {f"cifar{k}_resnet{d}_cutnmix" for k in (10, 100) for d in (32, 56, 110)}
    assert {path.stem for path in CONFIGS} == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_named_after_what_it_trains_and_says_its_command(path):
    config = read(path)
    assert path.stem == f"{config.dataset}_{config.arch}_{config.mix}"
    assert f"--flagfile=configs/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_the_published_recipe(path):
    config = read(path)
    recipe = (config.epochs, config.batch_size, config.learning_rate, config.weight_decay)
    assert recipe == (300, 128, 0.1, 5e-4)
    assert round(config.ramp * config.epochs) == 80
    assert round(config.crop * 32) == 4


def test_a_flag_after_the_flagfile_wins():
    assert read(CONFIGS[0], "--epochs=10").epochs == 10


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_its_model(path):
    config = read(path)
    num_classes = int(config.dataset.removeprefix("cifar"))
    pixels = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), np.uint8)
    names = tuple(map(str, range(num_classes)))
    model = build_model(config, Images(pixels, np.zeros(128, np.int32), names))
    assert [peer.name for peer in model.peers] == [config.arch] * 2
    assert model.num_classes == num_classes
    assert model.optimizer.built
