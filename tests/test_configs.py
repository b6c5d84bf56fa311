"""Every shipped flagfile parses, says how it is run, and names what is known."""

import pathlib

import pytest

from tests.tiny_peers import tiny_peer
from tf_cutnmix import command, sweep
from tf_cutnmix.distillation.method import METHODS, Method
from tf_cutnmix.mixing.layers import MIXINGS
from tf_cutnmix.networks import registry
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


def check_published_recipe(config: Config) -> None:
    recipe = (config.epochs, config.batch_size, config.learning_rate, config.weight_decay)
    assert recipe == (300, 128, 0.1, 5e-4)
    assert round(config.crop * 32) == 4
    assert registry.find(config.arch)


def test_both_data_sets_have_a_config_for_three_depths_and_each_architecture_of_the_literature():
    expected = {f"cifar{k}_resnet{d}_cutnmix" for k in (10, 100) for d in (32, 56, 110)}
    assert {path.stem for path in CONFIGS} == expected
    expected = {f"cifar{k}_{arch}" for k in (10, 100) for arch in PAPER_ARCHITECTURES}
    assert {path.stem for path in PAPER} == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_has_the_published_recipe_and_spells_out_what_cutnmix_does_by_default(path):
    config, method = read(path), Method("cutnmix")
    check_published_recipe(config)
    assert path.stem == f"{config.dataset}_{config.arch}_{config.mix}"
    assert f"--flagfile=configs/{path.name}" in path.read_text()
    assert (config.ramp, config.temperature) == (method.recipe.ramp, method.temperature)
    weights = {term.name: term.weight for term in method.terms([tiny_peer(), tiny_peer()])}
    assert {**weights, **config.term_weights} == weights
    assert list(config.term_weights) == ["feature"]
    assert read(path, "--epochs=10").epochs == 10


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_config_of_the_literature_has_its_recipe_and_commands_whose_names_are_known(path):
    config, text = read(path), path.read_text()
    check_published_recipe(config)
    assert round(config.ramp * config.epochs) == 80
    assert path.stem == f"{config.dataset}_{config.arch}"
    assert text.count(f"--flagfile=configs/paper/{path.name}") == 2
    assert (config.num_peers, config.method, config.mix) == (3, "cutnmix", "cutnmix")
    lines = text.replace("\\\n#", "").splitlines()
    (line,) = [line for line in lines if "tf_cutnmix.sweep" in line]
    flags = line.replace("configs/paper", str(path.parent)).split()[4:]
    configs = sweep.make_configs(command.parse(sweep.Settings, flags)).values()
    assert {config.method for config in configs} <= METHODS.keys()
    assert {config.seed for config in configs} == {0, 1, 2}
    assert {config.mix for config in configs} == {"none"}
    assert len(configs) == 21


def test_the_smoke_test_makes_every_method_with_every_mixing():
    flags = [f"--flagfile={SMOKE}", "--workdir=sweeps/smoke"]
    assert f"--flagfile=configs/{SMOKE.name} {flags[1]}" in SMOKE.read_text()
    configs = sweep.make_configs(command.parse(sweep.Settings, flags)).values()
    made = {(config.method, config.mix) for config in configs}
    assert made == {(method, mix) for method in METHODS for mix in ("none", *MIXINGS)}
    assert {(c.epochs, c.arch, c.num_peers, c.dataset) for c in configs} == {
        (1, "resnet8", 3, "digits")
    }
