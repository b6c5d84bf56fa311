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
from tf_cutnmix.runs.config import RETIRED, Config, named_in, with_defaults

_FILES = ("flags.cfg", "metrics.jsonl", "result.json")
_MOMENTS = {"best": "best_on_validation", "last": "last"}
_COSTS = (
    *("images_per_second", "trained_parameters", "flops_per_image", "peak_memory_bytes"),
    "wall_seconds",
)
# Figures are means of float32; what is beyond that no plot can show.
_LARGEST = 3.5e38


class Run(NamedTuple):
    """A finished run.

    Attributes:
      folder: where it is.
      config: its settings, from `flags.cfg`.
      retired: settings there that there are no more, if they had another value than their default.
      result: what `result.json` holds.
      class_names: of the data; none if the run did not record them.
      counts: for each split the number of images of each class, likewise.
      versions: of Python, TensorFlow, ... and the machine.
      figures: what runs are compared by. Accuracies, calibration errors and overlaps are parts of
        1, costs in the unit of their name; there is none of what the run has not or did not record.
      curves: from `metrics.jsonl`: a row for each epoch, a column for each figure, NaN where it was
        not recorded.
    """

    folder: pathlib.Path
    config: Config
    retired: dict[str, str]
    result: dict[str, Any]
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    versions: dict[str, str]
    figures: dict[str, float]
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
    if not flags.is_file():
        raise RunError(f"broken: {folder} has no flags.cfg, its settings are unknown")
    config, named = _parse(flags, lambda text: (with_defaults(read_flags(flags)), named_in(text)))
    if not result.exists():
        done = len(metrics.read_bytes().splitlines()) if metrics.is_file() else 0
        raise RunError(
            f"unfinished: {folder} has no result.json after {done} of {config.epochs} epochs"
        )
    facts = _parse(result, json.loads)
    rows = _parse(metrics, lambda text: [json.loads(line) for line in text.splitlines()])
    try:
        curves = _curves(rows)
        figures = _figures(facts, curves)
        for name, value in [pair for row in (*rows, figures) for pair in row.items()]:
            if not abs(value) <= _LARGEST:
                raise ValueError(f"{name} is {value}")
        # Text that no file can hold would end the report.
        json.dumps(facts, ensure_ascii=False).encode()
        return Run(
            folder=folder,
            config=config,
            retired={n: v for n, v in named.items() if n in RETIRED and v != RETIRED[n]},
            result=facts,
            class_names=tuple(map(str, facts.get("class_names", []))),
            counts={n: tuple(map(int, split)) for n, split in facts.get("counts", {}).items()},
            versions={name: str(own) for name, own in facts.get("versions", {}).items()},
            figures=figures,
            curves=curves,
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"broken: {folder} does not hold what a run writes: {error!r}") from error


def _parse(path: pathlib.Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"broken: {path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise RunError(f"broken: {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"broken: {path} is damaged or half-written: {error}") from error


def _curves(rows: list[dict[str, float]]) -> pd.DataFrame:
    """Figures by epoch, with the mean of the peers' validation accuracies.

    The total loss and the teacher's accuracy are there in any case.
    """
    names = ["loss", "val_teacher_accuracy", *(name for row in rows for name in row)]
    columns = [name for name in dict.fromkeys(names) if name != "epoch"]
    by_epoch = {int(row["epoch"]): row for row in rows}
    curves = pd.DataFrame([*by_epoch.values()], [*by_epoch], columns, dtype=float)
    peers = [f"val_{peer}_accuracy" for peer in _peers(columns, "val_")]
    return curves.assign(val_mean_peer_accuracy=curves[peers].mean(axis=1))


def _figures(result: dict[str, Any], curves: pd.DataFrame) -> dict[str, float]:
    figures: dict[str, Any] = {name: result.get(name) for name in _COSTS}
    if "region_overlap" in curves:
        figures["region_overlap"] = statistics.fmean(curves["region_overlap"].dropna())
    for moment, key in _MOMENTS.items():
        own = _figures_at(result[key], result.get("leader"))
        figures |= {f"{moment}_{name}": value for name, value in own.items()}
    return {name: float(value) for name, value in figures.items() if value is not None}


def _figures_at(moment: dict[str, Any], leader: str | None) -> dict[str, float | None]:
    """The best peer of a moment is the one that does best on the validation split then."""
    test, validation = moment["test"], moment.get("validation")
    peers = _peers(test)
    figures: dict[str, float | None] = {"epoch": moment["epoch"], "step": moment["step"]}
    for kind in ("accuracy", "balanced_accuracy", "calibration_error"):
        figures |= {
            f"{name}_{kind}": test.get(f"{name}_{kind}") for name in ("teacher", "ensemble")
        }
        if all(f"{peer}_{kind}" in test for peer in peers):
            figures[f"mean_peer_{kind}"] = statistics.fmean(test[f"{p}_{kind}"] for p in peers)
    if validation:
        best = max(peers, key=lambda peer: validation[f"{peer}_accuracy"])
        figures["best_peer_accuracy"] = test[f"{best}_accuracy"]
    if leader:
        figures["leader_accuracy"] = test[f"{leader}_accuracy"]
    for kind, value in test.get("scaled", {}).get("teacher", {}).items():
        figures[f"teacher_scaled_{kind}"] = value
    figures |= {name: test.get(name) for name in ("disagreement", "distance")}
    for name, split in (("training", "train"), ("validation", "validation")):
        figures[f"teacher_{name}_accuracy"] = (moment.get(split) or {}).get("teacher_accuracy")
    # Without the teacher there is nothing to compare.
    own = {"teacher_accuracy": test["teacher_accuracy"], "negative_log_likelihood": test["loss"]}
    return figures | own


def _peers(names: Iterable[str], prefix: str = "") -> list[str]:
    """The peers whose accuracies are among `names`, in their order."""
    pattern = re.compile(rf"{prefix}(peer\d+)_accuracy")
    found = [match[1] for name in names if (match := pattern.fullmatch(name))]
    return sorted(found, key=lambda peer: (len(peer), peer))
