"""Folders of finished runs with figures that a test chooses."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from tf_cutnmix import command
from tf_cutnmix.reporting.comparison import Group, collect
from tf_cutnmix.reporting.runs import Run, read
from tf_cutnmix.runs.config import Config

SETTINGS = {"method": "independent", "mix": "cutmix", "epochs": 2, "export": ""}


def write_run(
    folder: pathlib.Path,
    *,
    teacher: float = 0.5,
    peers: Sequence[float] = (0.4, 0.6),
    last_teacher: float = 0.25,
    test: dict[str, float] | None = None,
    result: dict[str, Any] | None = None,
    row: dict[str, float] | None = None,
    training: float | None = None,
    **settings: Any,
) -> pathlib.Path:
    """A run whose peers do as well on the validation split as on the test split.

    `teacher` and `peers` are accuracies at the best epoch, the first of two; `test`, `result` and
    `row` add to what the run has written of each moment's test split, of all and of each epoch;
    `training` is the teacher's accuracy on training images, which older runs have not recorded.
    """
    accuracies = {f"peer{k + 1}_accuracy": value for k, value in enumerate(peers)}

    def moment(epoch: int, accuracy: float) -> dict[str, Any]:
        own = {"teacher_accuracy": accuracy, "ensemble_accuracy": 0.7, **accuracies}
        validation = {**own, "loss": 1.25}
        return {
            "epoch": epoch,
            "step": 10 * epoch,
            "validation": validation,
            "test": validation | (test or {}),
            **({} if training is None else {"train": {"teacher_accuracy": training}}),
        }

    content = {
        "last": moment(2, last_teacher),
        "best_on_validation": moment(1, teacher),
        "best_peer": "peer1",
        "parameters": {name.removesuffix("_accuracy"): 1000 for name in accuracies},
        "images_per_second": 200.0,
        "wall_seconds": 60.0,
        "versions": {"tensorflow": "2.21.0", "machine": "2 cores"},
        **(result or {}),
    }
    rows = [
        {
            "epoch": epoch,
            "loss": 3.0 - epoch,
            "val_teacher_accuracy": teacher / epoch,
            **{f"val_{name}": value for name, value in accuracies.items()},
            **(row or {}),
        }
        for epoch in (1, 2)
    ]
    folder.mkdir(parents=True)
    config = Config(**{**SETTINGS, "workdir": str(folder), "num_peers": len(peers), **settings})
    (folder / "flags.cfg").write_text(config.flagfile())
    (folder / "result.json").write_text(json.dumps(content))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def read_flags(path: pathlib.Path) -> Config:
    return command.read(Config, path)


def make_run(folder: pathlib.Path, **content: Any) -> Run:
    """A run as `write_run` writes it, read."""
    return read(write_run(folder, **content), read_flags)


def make_runs(folder: pathlib.Path, *contents: dict[str, Any]) -> list[Run]:
    """A run for each of `contents`, in folders of their own."""
    start = len(list(folder.iterdir())) if folder.exists() else 0
    return [make_run(folder / f"run{start + k}", **own) for k, own in enumerate(contents)]


def make_groups(folder: pathlib.Path, *contents: dict[str, Any]) -> list[Group]:
    """Runs as of `make_runs`, in groups."""
    return collect(make_runs(folder, *contents))[0]
