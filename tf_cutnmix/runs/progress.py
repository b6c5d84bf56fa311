"""What a run writes down after each epoch, and how it goes on from there."""

import json
import math
import pathlib
import time
from collections.abc import Sequence

import keras

from tf_cutnmix import files
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import RunError
from tf_cutnmix.runs import checkpoints

_SELECTED_BY = "val_teacher_accuracy"


class Progress(keras.callbacks.Callback):
    """Writes `metrics.jsonl`, `last.npz` and `best.npz`; stops after a number of steps.

    Args:
      model: built and compiled.
      folder: of the run.
      batch_size: images per step.
      steps_per_epoch: of a whole epoch.
      steps: to stop after; 0 for no limit. The epoch that this cuts short leaves no checkpoint.
      class_names: written into the checkpoint.

    Attributes:
      epoch: whole epochs done.
      cut_short: whether the model has seen a part of one more.
      best_epoch: the latest of those with the best teacher on the validation split, or 0.
      rates: images per second of training, for each epoch of this process.
    """

    def __init__(
        self,
        model: OnlineDistiller,
        folder: pathlib.Path,
        *,
        batch_size: int,
        steps_per_epoch: int,
        steps: int,
        class_names: Sequence[str],
    ) -> None:
        super().__init__()
        self.folder = folder
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.steps_left = steps or math.inf
        self.class_names = list(class_names)
        self.variables = [*model.variables, *model.optimizer.variables]
        self.epoch = 0
        self.cut_short = False
        self.best_epoch = 0
        self.best = -1.0
        self.rates: list[float] = []

    @property
    def metrics_file(self) -> pathlib.Path:
        return self.folder / "metrics.jsonl"

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go on from a checkpoint; what was written down after it is forgotten."""
        checkpoints.restore(checkpoint, self.variables)
        self.epoch = int(checkpoint.facts["epoch"])
        self.best_epoch = int(checkpoint.facts["best_epoch"])
        self.best = float(checkpoint.facts["best"])
        try:
            lines = self.metrics_file.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise RunError(f"cannot read {self.metrics_file}: {error.strerror}") from error
        files.write(self.metrics_file, b"".join(lines[: self.epoch]))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches = 0
        self.trained_at: float | None = None
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.batches += 1
        self.steps_left -= 1
        if self.steps_left <= 0:
            self.model.stop_training = True

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.trained_at = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        seconds = (self.trained_at or time.perf_counter()) - self.started
        self.rates.append(self.batches * self.batch_size / seconds)
        row = {"epoch": epoch + 1, "images_per_second": round(self.rates[-1], 1), **logs}
        try:
            with open(self.metrics_file, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self.metrics_file}: {error.strerror}") from error
        self.cut_short = self.batches < self.steps_per_epoch
        if self.cut_short:
            return
        self.epoch = epoch + 1
        if _SELECTED_BY in logs and logs[_SELECTED_BY] >= self.best:
            self.best, self.best_epoch = logs[_SELECTED_BY], self.epoch
            checkpoints.save(self.folder / "best.npz", self.model.variables)
        checkpoints.save(
            self.folder / "last.npz",
            self.variables,
            epoch=self.epoch,
            best=self.best,
            best_epoch=self.best_epoch,
            class_names=self.class_names,
        )
