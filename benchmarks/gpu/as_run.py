"""Make a run's folder of a history of run_bundle, for reports: `python -m benchmarks.gpu.as_run`.

The folder holds `flags.cfg`, `metrics.jsonl` and `result.json` as `tf_cutnmix.train` writes them.
Rates are those of the steps alone, and so is `wall_seconds`, their sum; `peak_memory_bytes` is
what XLA says that the larger program takes on the device.
"""

import dataclasses
import json
import pathlib
import statistics
import sys
from typing import Any

from tf_cutnmix import command, files
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.config import PLACES, Config
from tf_cutnmix.settings import AT_LEAST_1, check, setting

SUMMARY = """\
Makes folders of runs, which tf_cutnmix.report reads, of histories that run_bundle wrote. A history
that ends before its run does is left out, and said so."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which histories become runs, and where.

    Raises:
      InputError: a setting is missing.
    """

    histories: tuple[str, ...] = setting((), "input", "histories of run_bundle", positional=True)
    out: str = setting("", "output", "folder for the runs, one folder each: <name>_seed<seed>")
    name: str = setting("run", "output", "what their folders are called before the seed")
    every: int = setting(
        1, "output", "epochs between the lines of metrics.jsonl; the last is kept", rule=AT_LEAST_1
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.histories or not self.out:
            raise InputError("name histories, and a folder with --out")


def main(settings: Settings) -> None:
    """Write the folders.

    Raises:
      InputError: a history cannot be read.
    """
    for name in settings.histories:
        try:
            history = json.loads(pathlib.Path(name).read_text())
            head, epochs = history["head"], history["epochs"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{name} is no history of run_bundle: {error!r}") from error
        if not epochs or epochs[-1]["epoch"] < head["flags"]["epochs"]:
            print(f"{name}: ends at epoch {epochs[-1]['epoch'] if epochs else 0}, left out")
            continue
        folder = pathlib.Path(settings.out) / f"{settings.name}_seed{head['seed']}"
        write(folder, history, settings.every)


def write(folder: pathlib.Path, history: dict[str, Any], every: int = 1) -> None:
    """Write the three files of a finished run, with a line for every so many epochs."""
    head = history["head"]
    names = {field.name for field in dataclasses.fields(Config)} & set(head["flags"])
    flags = {name: head["flags"][name] for name in names}
    # A bundle is told nothing of the images: which they were its pack says.
    splits = {f"{name}_split": split for name, split in head["splits"].items()}
    config = Config(**{**flags, "validation_split": "auto", **splits, "seed": head["seed"]})
    named = [
        line
        for line in config.flagfile().splitlines(keepends=True)
        if line[2:].partition("=")[0] not in PLACES
    ]
    last = history["epochs"][-1]["epoch"]
    kept = [row for row in history["epochs"] if row["epoch"] % every == 0 or row["epoch"] == last]
    rows = [metrics(row) for row in kept]
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "flags.cfg", "".join(named).encode())
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files.write(folder / "metrics.jsonl", lines.encode())
    content = json.dumps(result(history), indent=2)
    files.write(folder / "result.json", content.encode() + b"\n")


def metrics(row: dict[str, Any]) -> dict[str, float]:
    """A line of `metrics.jsonl`."""
    return {
        "epoch": row["epoch"],
        "images_per_second": row["images_per_second"],
        **row["train"],
        **{f"val_{name}": value for name, value in row.get("validation", {}).items()},
        "learning_rate": row["learning_rate"],
    }


def result(history: dict[str, Any]) -> dict[str, Any]:
    """What `result.json` holds; the last epoch is the best one, none was chosen."""
    head, last = history["head"], history["epochs"][-1]
    moment = {name: last[name] for name in ("epoch", "step", "validation", "test") if name in last}
    rates = [row["images_per_second"] for row in history["epochs"] if row["images_per_second"]]
    images = head["steps_per_epoch"] * head["batch_size"]
    validation = last.get("validation", {})
    networks = [f"{kind}{name[4:]}" for kind in ("average", "peer") for name in head["parameters"]]
    return {
        "last": moment,
        "best_on_validation": moment,
        "best_peer": max(networks, key=lambda name: validation.get(f"{name}_accuracy", 0.0)),
        "leader": head["leader"],
        "parameters": head["parameters"],
        "trained_parameters": head["trained_parameters"],
        "flops_per_image": head["flops_per_image"],
        "peak_memory_bytes": max(sum(parts.values()) for parts in head["memory"].values()),
        "images_per_second": round(statistics.median(rates), 1),
        "exports": {},
        "wall_seconds": round(sum(images / rate for rate in rates), 1),
        "versions": {**head["versions"], "machine": head["device"]},
    }


if __name__ == "__main__":
    sys.exit(command.run("benchmarks.gpu.as_run", SUMMARY, Settings, main))
