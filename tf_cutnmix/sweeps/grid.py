"""A grid of runs: what is varied, the folder of each run, and what is there of it."""

import json
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.config import Config, as_begun, settings_in
from tf_cutnmix.settings import Role, names_of

# Runs that differ in these alone have the same result.
_WITHOUT_EFFECT = names_of(Config, Role.PLACE, Role.KEPT)


def parse(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each setting, from texts like "seed=0,1,2".

    Values that hold commas are separated by "|": "arch=resnet8,resnet14|resnet20".

    Raises:
      InputError: a text has no setting or no value, or a setting or a value comes twice.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        name = name.strip()
        values = tuple(v.strip() for v in listed.split("|" if "|" in listed else ","))
        if not name or not all(values):
            raise InputError(
                f"--grid={text}: must be a setting and its values, such as seed=0,1,2, none empty"
            )
        if name in grid:
            raise InputError(f"--grid gives {name} twice: list all its values in one --grid")
        if repeated := [value for value in values if values.count(value) > 1]:
            raise InputError(f"--grid={text}: {repeated[0]} comes twice")
        grid[name] = values
    return grid


def folder_name(settings: Mapping[str, Any]) -> str:
    """The name of a run's folder, such as "method=dml,seed=0".

    The commas in a value become "+", and what else a file system may not take "_".
    """
    safe = {n: re.sub(r"[^\w.+-]+", "_", str(v).replace(",", "+")) for n, v in settings.items()}
    return ",".join(f"{setting}={value}" for setting, value in safe.items())


def result(config: Config) -> dict[str, Any]:
    """The content of a run's `result.json`; nothing if there is none or it is damaged."""
    try:
        return json.loads((pathlib.Path(config.workdir) / "result.json").read_text())
    except (OSError, ValueError):
        return {}


def is_done(config: Config) -> bool:
    """Whether the run's folder holds its result, made with the same settings, and its exports."""
    flags = pathlib.Path(config.workdir) / "flags.cfg"
    found = result(config)
    if not (flags.exists() and found) or set(config.exports) - {*found.get("exports", {})}:
        return False
    begun = flags.read_text()
    before, now = settings_in(begun), settings_in(as_begun(config, begun).flagfile())
    return all(before.get(n) == now.get(n) for n in {*before, *now} - {*_WITHOUT_EFFECT})


def accuracies(config: Config) -> dict[str, float]:
    """A run's test accuracies, 0 to 1, after the epoch that validation chose."""
    test = result(config)["best_on_validation"]["test"]
    peers = [value for name, value in test.items() if re.fullmatch(r"peer\d+_accuracy", name)]
    return {
        "teacher": test["teacher_accuracy"],
        "ensemble": test["ensemble_accuracy"],
        "mean peer": statistics.mean(peers),
    }
