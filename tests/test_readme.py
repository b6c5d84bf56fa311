"""What the README shows works: its Python runs, its commands name modules and flags that exist."""

import dataclasses
import importlib
import pathlib
import re
import shlex

import keras
import numpy as np
import pytest

from tf_cutnmix import OnlineDistiller, build_network, config, evaluate, methods, report, sweep
from tf_cutnmix.augment import AUGMENTATIONS
from tf_cutnmix.mixing import MIXINGS

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
SETTINGS = {
    "tf_cutnmix.train": config.Config,
    "tf_cutnmix.evaluate": evaluate.Settings,
    "tf_cutnmix.sweep": sweep.Settings,
    "tf_cutnmix.report": report.Settings,
}


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands() -> list[list[str]]:
    """Every `python -m tf_cutnmix...` of the README as its words, from the module on."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [
        shlex.split(line)[shlex.split(line).index("-m") + 1 :] for line in lines if "-m" in line
    ]


def test_its_python_runs_in_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    namespace = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["answer"]["probabilities"].shape == (1, 10)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_its_commands_name_modules_and_flags_that_exist(words):
    module, *flags = words
    importlib.import_module(module)
    flags = [word for word in flags if word.startswith("--")]
    known = {field.name for field in dataclasses.fields(SETTINGS[module])} | {"flagfile", "help"}
    assert {flag.removeprefix("--").split("=")[0] for flag in flags} <= known


def test_the_files_that_it_names_are_there():
    named = re.findall(r"(?:configs|docs|savedmodels)/[\w./]+\w", README)
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_method_that_contributors_are_shown_trains(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    (example,) = blocks("python", CONTRIBUTING)
    exec(compile(example, "CONTRIBUTING.md", "exec"), {})
    peers = [build_network("resnet8", (8, 8, 3), 10) for _ in range(2)]
    model = OnlineDistiller(peers, method="consensus_of_all")
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("uint8")
    logs = model.train_on_batch(images, np.arange(8), return_dict=True)
    assert logs["imitation"] > 0
    assert logs["loss"] == pytest.approx(logs["cross_entropy"] + logs["imitation"], rel=1e-5)


def test_every_method_mixing_and_augmentation_is_on_the_page():
    for name in (*methods.METHODS, *MIXINGS, *AUGMENTATIONS):
        assert f"`{name}`" in README
