"""Runs of a few steps and what they leave behind."""

import json
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from tf_cutnmix import data
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.runs import build, checkpoints, experiment, loading, plan
from tf_cutnmix.runs.config import Config

STEPS_PER_EPOCH = 4
SMALL = {
    "dataset": "digits",
    "train_split": "train[:240]",
    "test_split": "test[:200]",
    "validation_fraction": 0.4,
    "arch": "tiny_networks:tiny",
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 0.05,
    "teacher_memory": 0.5,
    "export": "",
}
ALONE = {
    **SMALL,
    "num_peers": 1,
    "method": "independent",
    "mix": "mixup",
    "train_split": "train[:144]",
    "validation_fraction": 0.0,
    "crop": 0.0,
}


class Run(NamedTuple):
    folder: pathlib.Path
    config: Config
    result: dict[str, Any]


def run(folder: pathlib.Path, base: dict[str, Any] = SMALL, **settings: Any) -> Run:
    config = Config(**{**base, "workdir": str(folder), **settings})
    return Run(folder, config, experiment.train_and_evaluate(config))


def model_of(images: data.Images, base: dict[str, Any] = SMALL, **settings: Any) -> OnlineDistiller:
    """What a run of these settings trains on these images."""
    return build.build_model(plan_of(Config(**{**base, **settings}), images))


def plan_of(config: Config, images: data.Images) -> plan.Plan:
    """Of a run whose splits are all these images."""
    return plan.resolve(config, loading.Splits(images, images, images))


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"tf_cutnmix.{name}", *arguments]


def metrics(folder: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def figures(folder: pathlib.Path) -> list[dict[str, float]]:
    """The metrics without what depends on how busy the machine is."""
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in metrics(folder)]


def state(folder: pathlib.Path) -> checkpoints.Checkpoint:
    """The latest checkpoint of a run, which must be whole."""
    return checkpoints.read(checkpoints.paths(folder)[0])


def progress_of(folder: pathlib.Path) -> tuple[int, int]:
    """Whole epochs, and the batches of one more, in the latest checkpoint of a run."""
    facts = state(folder).facts
    return facts["epoch"], facts["batch"]


def assert_equal_to_the_bit(one: pathlib.Path, other: pathlib.Path) -> None:
    """Two runs have the same figures and the same state."""
    assert figures(one) == figures(other)
    first, second = state(one), state(other)
    for name in ("values", "metrics", "best"):
        np.testing.assert_equal(getattr(first, name), getattr(second, name))
