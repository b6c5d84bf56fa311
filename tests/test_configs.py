"""Every shipped flagfile parses, says how it is run, and builds its model."""

import pathlib

import numpy as np
import pytest

from tests.distillation.small_models import small_network
from tf_cutnmix import command, sweep
from tf_cutnmix.data import Images
from tf_cutnmix.distillation.method import METHODS, Method
from tf_cutnmix.mixing.layers import MIXINGS
from tf_cutnmix.networks import build
from tf_cutnmix.runs.build import build_model
from tf_cutnmix.runs.config import Config

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
SMOKE = FOLDER / "smoke.cfg"
CONFIGS = sorted(set(FOLDER.glob("*.cfg")) - {SMOKE})
PAPER = sorted((FOLDER / "paper").glob("*.cfg"))
PAPER_ARCHITECTURES = (
    "resnet32_projection",
    "resnet110_bottleneck",
    "vgg16",
    "vgg19",
    "densenet_bc40_12",
    "wide_bottleneck20_8",
)


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


@pytest.mark.parametrize("path", [*CONFIGS, *PAPER], ids=lambda path: path.stem)
def test_config_is_the_published_recipe(path):
    config = read(path)
    recipe = (config.epochs, config.batch_size, config.learning_rate, config.weight_decay)
    assert recipe == (300, 128, 0.1, 5e-4)
    assert round(config.crop * 32) == 4


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_ramp_is_that_of_the_published_recipe(path):
    config = read(path)
    assert round(config.ramp * config.epochs) == 80


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_spells_out_what_cutnmix_does_by_default(path):
    config, method = read(path), Method("cutnmix")
    assert (config.ramp, config.temperature) == (method.recipe.ramp, method.temperature)
    weights = {term.name: term.weight for term in method.terms([small_network()] * 2)}
    assert {**weights, **config.term_weights} == weights
    assert list(config.term_weights) == ["feature"]


def test_a_flag_after_the_flagfile_wins():
    assert read(CONFIGS[0], "--epochs=10").epochs == 10


@pytest.mark.long
@pytest.mark.parametrize(
    "path",
    [p if "resnet32" in p.stem else pytest.param(p, marks=pytest.mark.slow) for p in CONFIGS],
    ids=lambda path: path.stem,
)
def test_config_builds_its_model(path):
    config = read(path)
    num_classes = int(config.dataset.removeprefix("cifar"))
    pixels = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), np.uint8)
    names = tuple(map(str, range(num_classes)))
    model = build_model(config, Images(pixels, np.zeros(128, np.int32), names))
    assert [peer.name for peer in model.peers] == [config.arch] * 2
    assert model.num_classes == num_classes
    assert model.optimizer.built


# The architectures of the literature


def test_both_data_sets_have_a_config_for_each_architecture_of_the_literature():
    expected = {f"cifar{k}_{arch}" for k in (10, 100) for arch in PAPER_ARCHITECTURES}
    assert {path.stem for path in PAPER} == expected


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_config_of_the_literature_says_its_commands_and_its_names_are_known(path):
    config = read(path)
    assert path.stem == f"{config.dataset}_{config.arch}"
    assert path.read_text().count(f"--flagfile=configs/paper/{path.name}") == 2
    assert (config.num_peers, config.method, config.mix) == (3, "cutnmix", "cutnmix")
    assert build.find(config.arch)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_sweep_in_a_head_parses_and_knows_its_methods(path):
    text = path.read_text().replace("\\\n#", "")
    (line,) = [line for line in text.splitlines() if "tf_cutnmix.sweep" in line]
    flags = line.replace("configs/paper", str(path.parent)).split()[4:]
    configs = sweep.make_configs(command.parse(sweep.Settings, flags)).values()
    assert {config.method for config in configs} <= METHODS.keys()
    assert {config.seed for config in configs} == {0, 1, 2}
    assert {config.mix for config in configs} == {"none"}
    assert len(configs) == 21


@pytest.mark.slow
@pytest.mark.parametrize("arch", PAPER_ARCHITECTURES)
def test_a_config_of_the_literature_builds_its_model(arch):
    config = read(FOLDER / "paper" / f"cifar100_{arch}.cfg")
    pixels = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), np.uint8)
    labels = np.zeros(128, np.int32)
    model = build_model(config, Images(pixels, labels, tuple(map(str, range(100)))))
    assert len(model.peers) == 3
    assert model.optimizer.built


# The smoke test


def test_the_smoke_test_makes_every_method_with_every_mixing():
    text = SMOKE.read_text()
    flags = [f"--flagfile={SMOKE}", "--workdir=sweeps/smoke"]
    assert f"--flagfile=configs/{SMOKE.name} {flags[1]}" in text
    configs = sweep.make_configs(command.parse(sweep.Settings, flags)).values()
    made = {(config.method, config.mix) for config in configs}
    assert made == {(method, mix) for method in METHODS for mix in ("none", *MIXINGS)}
    assert {(c.epochs, c.arch, c.num_peers, c.dataset) for c in configs} == {
        (1, "resnet8", 3, "digits")
    }
