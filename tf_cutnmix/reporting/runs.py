"""Finished runs, read from their folders, and the figures that a report compares."""

import json
import pathlib
import re
import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pandas as pd

from tf_cutnmix import files
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.runs.config import PLACES, RETIRED, Config, named_in

MOMENTS = {"best": "best_on_validation", "last": "last"}

_FILES = ("flags.cfg", "metrics.jsonl", "result.json")
_COSTS = ("images_per_second", "trained_parameters", "flops_per_image", "peak_memory_bytes")

# A figure is missing where the run did not record it, and None where there is no such thing.
Figures = dict[str, float | None]

# Figures are means of float32; what is beyond that no plot can show.
_LARGEST = 3.5e38


class Run(NamedTuple):
    """A finished run.

    Attributes:
      folder: where it is.
      config: its settings, from `flags.cfg`.
      retired: settings there that there are no more, if they had another value than their default.
      assumed: settings that `flags.cfg` does not name; `config` has their defaults.
      result: what `result.json` holds.
      class_names: of the data; none if the run did not record them.
      counts: for each split the number of images of each class, likewise.
      versions: of Python, TensorFlow, ... and the machine.
      figures: what runs are compared by.
      curves: from `metrics.jsonl`: a row for each epoch, a column for each figure, NaN where it was
        not recorded.
    """

    folder: pathlib.Path
    config: Config
    retired: dict[str, str]
    assumed: tuple[str, ...]
    result: dict[str, Any]
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    versions: dict[str, str]
    figures: Figures
    curves: pd.DataFrame


def find(places: Iterable[str]) -> list[pathlib.Path]:
    """The folders of runs in `places` at any depth, each once, finished or not.

    Raises:
      InputError: a place does not exist or holds no run.
    """
    folders: dict[pathlib.Path, pathlib.Path] = {}
    for place in places:
        root = pathlib.Path(place)
        if not root.is_dir():
            raise InputError(f"{place} is no folder: name runs, or folders that hold runs")
        found = {path.parent for name in _FILES for path in root.rglob(name)}
        if not found:
            raise InputError(f"{place} holds no run: no folder in it has a flags.cfg")
        for folder in sorted(found):
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def read(folder: pathlib.Path, read_flags: Callable[[pathlib.Path], Config]) -> Run:
    """A run from its folder.

    Args:
      folder: of the run.
      read_flags: makes the settings of a flagfile; its `InputError` says what is wrong there.

    Raises:
      RunError: the run is unfinished or broken; the message says which and why.
    """
    flags, metrics, result = (files.own(folder, name) for name in _FILES)
    config, retired, assumed = _settings(flags, read_flags)
    if not result.exists():
        done = len(metrics.read_bytes().splitlines()) if metrics.is_file() else 0
        raise RunError(
            f"unfinished: {folder} has no result.json after {done} of {config.epochs} epochs"
        )
    facts, rows = _parse(result, json.loads), _parse(metrics, _lines)
    try:
        _check(folder, [(name, float(value)) for row in rows for name, value in row.items()])
        curves = _curves(rows)
        figures = _figures(config, facts, curves)
        _check(folder, figures.items())
        # Text that no file can hold would end the report.
        json.dumps(facts, ensure_ascii=False).encode()
        return Run(
            folder=folder,
            config=config,
            retired=retired,
            assumed=assumed,
            result=facts,
            class_names=tuple(map(str, facts.get("class_names", []))),
            counts={n: tuple(map(int, split)) for n, split in facts.get("counts", {}).items()},
            versions={name: str(own) for name, own in facts.get("versions", {}).items()},
            figures=figures,
            curves=curves,
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"broken: {folder} does not hold what a run writes: {error!r}") from error


def _settings(
    flags: pathlib.Path, read_flags: Callable[[pathlib.Path], Config]
) -> tuple[Config, dict[str, str], tuple[str, ...]]:
    """What `flags.cfg` holds, retired settings that matter, and the settings it does not name."""
    if not flags.is_file():
        raise RunError(f"broken: {flags.parent} has no flags.cfg, its settings are unknown")
    try:
        text = flags.read_text("utf-8")
        config, named = read_flags(flags), named_in(text)
        retired = {n: v for n, v in named.items() if n in RETIRED and v != RETIRED[n]}
        unnamed = named_in(config.flagfile()).keys() - {*named, *PLACES}
        return config, retired, tuple(sorted(f"--{name}" for name in unnamed))
    except (OSError, ValueError) as error:
        raise RunError(f"broken: {flags}: {error}") from error


def _check(folder: pathlib.Path, figures: Iterable[tuple[str, float | None]]) -> None:
    for name, value in figures:
        if value is not None and not abs(value) <= _LARGEST:
            raise RunError(f"broken: {folder}: {name} is {value}")


def _parse(path: pathlib.Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"broken: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"broken: {path} is damaged or half-written: {error}") from error


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def _curves(rows: list[dict[str, float]]) -> pd.DataFrame:
    """Figures by epoch, with the mean of the peers' validation accuracies.

    The total loss and the teacher's accuracy are there in any case.
    """
    names = ["loss", "val_teacher_accuracy", *(name for row in rows for name in row)]
    columns = [name for name in dict.fromkeys(names) if name != "epoch"]
    by_epoch = {int(row["epoch"]): row for row in rows}
    curves = pd.DataFrame([*by_epoch.values()], [*by_epoch], columns, dtype=float)
    peers = curves[_accuracies(columns, "val_")]
    return curves.assign(val_mean_peer_accuracy=peers.mean(axis=1))


def _figures(config: Config, result: dict[str, Any], curves: pd.DataFrame) -> Figures:
    """Accuracies, calibration errors and overlaps as parts of 1; costs in the unit of their name.

    The best peer of a moment is the one that does best on the validation split then.
    """
    figures: Figures = {}
    for moment, key in MOMENTS.items():
        values = _figures_of_moment(result[key], result)
        figures |= {f"{moment}_{name}": value for name, value in values.items()}
    if config.mix != "cutnmix" or len(config.architectures) == 1:
        figures["region_overlap"] = None
    elif "region_overlap" in curves:
        figures["region_overlap"] = statistics.fmean(curves["region_overlap"].dropna())
    figures |= {name: float(result[name]) for name in _COSTS if result.get(name) is not None}
    figures["wall_seconds"] = float(result["wall_seconds"])
    return figures


def _figures_of_moment(moment: dict[str, Any], result: dict[str, Any]) -> Figures:
    test, validation = moment["test"], moment.get("validation")
    peers = [name.removesuffix("_accuracy") for name in _accuracies(test)]
    best = max(peers, key=lambda peer: validation[f"{peer}_accuracy"]) if validation else None
    figures: Figures = {"epoch": float(moment["epoch"]), "step": float(moment["step"])}
    for kind in ("accuracy", "balanced_accuracy", "calibration_error"):
        names = [f"{name}_{kind}" for name in ("teacher", "ensemble")]
        figures |= {name: float(test[name]) for name in names if name in test}
        own = [test[f"{peer}_{kind}"] for peer in peers if f"{peer}_{kind}" in test]
        if len(own) == len(peers):
            figures[f"mean_peer_{kind}"] = statistics.fmean(own)
    figures["best_peer_accuracy"] = float(test[f"{best}_accuracy"]) if best else None
    if "leader" in result:
        leader = result["leader"]
        figures["leader_accuracy"] = float(test[f"{leader}_accuracy"]) if leader else None
    for name in ("disagreement", "distance"):
        if len(peers) == 1 or name in test:
            figures[name] = float(test[name]) if len(peers) > 1 else None
    figures["negative_log_likelihood"] = float(test["loss"])
    # Without these two there is nothing to compare.
    return {name: figures[name] for name in ("teacher_accuracy", "mean_peer_accuracy")} | figures


def _accuracies(names: Iterable[str], prefix: str = "") -> list[str]:
    """The names of the peers' accuracies among `names`, in the order of the peers."""
    found = [name for name in names if re.fullmatch(rf"{prefix}peer\d+_accuracy", name)]
    return sorted(found, key=lambda name: (len(name), name))
