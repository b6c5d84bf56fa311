"""What the README shows works: its Python runs, its commands name modules and flags that exist."""

import dataclasses
import importlib
import pathlib
import re
import shlex

import pytest

from tf_cutnmix import config, evaluate

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS = {"tf_cutnmix.train": config.Config, "tf_cutnmix.evaluate": evaluate.Settings}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


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
    known = {field.name for field in dataclasses.fields(SETTINGS[module])} | {"flagfile", "help"}
    assert {flag.removeprefix("--").split("=")[0] for flag in flags} <= known


def test_the_files_that_it_names_are_there():
    named = re.findall(r"(?:configs|docs|savedmodels)/[\w./]+\w", README)
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).exists()] == []
