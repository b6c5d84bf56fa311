"""Saving within epochs: which part of a run's time it takes."""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import turns
from benchmarks.tables import Row
from tf_cutnmix.data import Images
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.interrupts import Interrupts
from tf_cutnmix.runs import build, checkpoints
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.events import Events
from tf_cutnmix.runs.loading import Splits
from tf_cutnmix.runs.plan import Plan, resolve
from tf_cutnmix.runs.progress import Progress

TITLE = (
    "A checkpoint within an epoch, as a run writes it: weights, slots, averages and the best "
    "model. A step is one of a batch of 128 images of 32x32, an epoch 390 of them, as CIFAR has. "
    "The part of the time is that of a save against the minutes between two, --save_minutes by "
    "its default; of a shorter epoch, against the epoch, at whose end a run saves in any case."
)
_BATCH = 128
_STEPS = 390


def rows(quick: bool) -> Iterator[Row]:
    """A row for each depth of two ResNets."""
    for depth in [8] if quick else [20, 56, 110]:
        yield _row(f"resnet{depth}", batch=16 if quick else _BATCH, repeats=2 if quick else 5)


def _row(arch: str, batch: int, repeats: int) -> Row:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (batch, 32, 32, 3), np.uint8)
    labels = np.arange(batch, dtype=np.int32) % 10
    images = Images(pixels, labels, tuple("0123456789"))
    config = Config(arch=arch, batch_size=batch)
    plan = resolve(config, Splits(images, images, images))
    model = build.build_model(plan)
    model.train_on_batch(pixels, labels)  # it is traced here
    steps = [_seconds(lambda: model.train_on_batch(pixels, labels)) for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        saves = [_seconds_of_a_save(model, folder, plan) for _ in range(repeats)]
        size = checkpoints.paths(folder)[0].stat().st_size
    epoch = _STEPS * float(np.median(steps))
    between = min(60 * config.save_minutes, epoch)
    return {
        "networks": f"2 {arch}",
        "step, s": turns.summary(steps),
        "epoch, min": float(f"{epoch / 60:.3g}"),
        "checkpoint, MB": round(size / 1e6, 1),
        "save, s": turns.summary(saves),
        "part of the time, %": turns.summary([100 * save / (between + save) for save in saves]),
    }


def _seconds_of_a_save(model: OnlineDistiller, folder: pathlib.Path, plan: Plan) -> float:
    """What a step's end takes longer for it."""
    config = dataclasses.replace(plan.config, workdir=str(folder), save_minutes=1e-9)
    plan = dataclasses.replace(plan, config=config)
    progress = Progress(model, plan, Events(folder / "tensorboard"), Interrupts())
    progress.steps_per_epoch = _STEPS
    progress.best_model = checkpoints.copies(model.variables)
    progress.set_model(model)
    progress.on_epoch_begin(0)
    return _seconds(lambda: progress.on_train_batch_end(0))


def _seconds(function: Any) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
