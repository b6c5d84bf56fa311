"""What a run writes down on its way, and how it goes on from there."""

import json
import math
import pathlib
import time

import keras
import numpy as np

from tf_cutnmix import files
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import Interrupted, RunError
from tf_cutnmix.interrupts import Interrupts
from tf_cutnmix.runs import checkpoints
from tf_cutnmix.runs.events import Events
from tf_cutnmix.runs.plan import Plan

_SELECTED_BY = "val_teacher_accuracy"
# Saving within epochs takes at most this part of the time, however long one save takes.
_LARGEST_PART = 0.01


class Progress(keras.callbacks.Callback):
    """Saves checkpoints, writes `metrics.jsonl` and `tensorboard/`, stops when it is asked to.

    After each epoch, every so many minutes within one and when the run is to end, the state is
    saved. The checkpoint holds the history too: the other files are made from it, and made anew
    when the run goes on.

    Args:
      model: built and compiled.
      plan: of the run.
      events: that TensorBoard shows.
      interrupts: looked at after each step.
      began_at: `time.perf_counter()` when this process began with the run; now by default.

    Attributes:
      epoch: whole epochs done.
      batch: steps done of one more.
      history: the figures of each epoch done, as in `metrics.jsonl`.
      best: the teacher's best accuracy on the validation split, or -1.
      best_epoch: the latest of those that have it, or 0.
      better_epoch: the first of those, from which `--patience` is counted.
      best_model: its variables, none if it is 0.
      rates: images per second of training, for each epoch that this process has trained in.
      stopped: whether so many steps are done.
    """

    def __init__(
        self,
        model: OnlineDistiller,
        plan: Plan,
        events: Events,
        interrupts: Interrupts,
        began_at: float | None = None,
    ) -> None:
        super().__init__()
        self.folder = pathlib.Path(plan.config.folder)
        self.events = events
        self.interrupts = interrupts
        self.rows_per_step = plan.rows_per_step
        self.steps_per_epoch = plan.steps_per_epoch
        self.steps_left = plan.config.steps or math.inf
        self.seconds_between_saves = 60 * plan.config.save_minutes or math.inf
        self.facts = plan.facts()
        self.images = plan.splits.fingerprints()
        self.distiller = model
        self.variables = [*model.variables, *model.optimizer.variables]
        self.epoch = 0
        self.batch = 0
        self.history: list[dict[str, float]] = []
        self.patience = plan.config.patience or math.inf
        self.best_epoch = self.better_epoch = 0
        self.best = -1.0
        self.best_model: list[np.ndarray] = []
        self.rates: list[float] = []
        self._seconds_before = 0.0
        self._began_at = time.perf_counter() if began_at is None else began_at
        self._metrics: list[np.ndarray] = []
        self._kept: list[pathlib.Path] = []
        self._saved_at = time.perf_counter()
        self._seconds_of_a_save = 0.0

    @property
    def metrics_file(self) -> pathlib.Path:
        return self.folder / "metrics.jsonl"

    @property
    def stopped(self) -> bool:
        return self.steps_left <= 0

    @property
    def gave_up(self) -> bool:
        """Whether the last look at the validation split has ended the run, by `--patience`."""
        looked = bool(self.history) and _SELECTED_BY in self.history[-1]
        return looked and self.epoch - self.better_epoch >= self.patience

    @property
    def seconds(self) -> float:
        """Since the run was begun, in all processes that have gone on with it."""
        return self._seconds_before + time.perf_counter() - self._began_at

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
          RunError: it is of another model, or lacks what a run writes.
        """
        facts = checkpoint.facts
        try:
            self.epoch, self.batch = int(facts["epoch"]), int(facts["batch"])
            self.best_epoch, self.best = int(facts["best_epoch"]), float(facts["best"])
            # Runs of before had no patience.
            self.better_epoch = int(facts.get("better_epoch", self.best_epoch))
            self.history = list(facts["history"])
            self._seconds_before = float(facts.get("seconds", 0.0))
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the checkpoint does not hold what a run saves: {error!r}") from error
        checkpoints.restore(checkpoint.values, self.variables)
        self.best_model = list(checkpoint.best)
        self._metrics = list(checkpoint.metrics)
        self._kept = [checkpoints.place(self.folder, self.epoch, self.batch)]

    def begin_epoch_anew(self) -> None:
        """Begin the epoch that was left, and the choice of the best one, on other images.

        Steps are counted as if all epochs had as many as this: schedules go by them.
        """
        self.batch, self._metrics = 0, []
        self.best_epoch, self.best, self.best_model = 0, -1.0, []
        self.better_epoch = self.epoch
        for counter in (self.distiller.step, self.distiller.optimizer.iterations):
            counter.assign(self.epoch * self.steps_per_epoch)
        # A checkpoint within the epoch would pass for a later one than those that come.
        self._kept = []

    def write_history(self) -> None:
        """Write down anew what the checkpoint knows; what was written after it is forgotten."""
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        if self.history or self.metrics_file.exists():
            files.write(self.metrics_file, lines.encode())
        self.events.add(self.history)

    def save(self) -> None:
        """Save the state after the last step."""
        self._save(self._state())

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.end_if_asked()  # here: others show the epoch that has ended first
        # Keras has just reset the means, which go on where the epoch was left.
        if self.batch:
            checkpoints.restore(self._metrics, self.distiller.metrics_variables)
        self.trained = 0
        self.trained_at: float | None = None
        self.started = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        last = self.batch >= self.steps_per_epoch - 1
        if last or self.steps_left <= 1:
            self.learning_rate = float(self.distiller.optimizer.learning_rate)
        if last:
            # While the epoch is validated there is no state to go on from: its means are gone.
            self.before_last_batch = self._state()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.batch += 1
        self.trained += 1
        self.steps_left -= 1
        if self.stopped:
            self.model.stop_training = True
        if self.batch >= self.steps_per_epoch:
            return
        if self.interrupts.number or self.stopped or self._save_is_due():
            self._save(self._state())
        self.end_if_asked()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.trained_at = time.perf_counter()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.interrupts.number and self.batch >= self.steps_per_epoch:
            self.batch -= 1
            self._save(self.before_last_batch)
            self.end_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        seconds = (self.trained_at or time.perf_counter()) - self.started
        self.rates.append(self.trained * self.rows_per_step / seconds)
        row = {
            "epoch": epoch + 1,
            "images_per_second": round(self.rates[-1], 1),
            **logs,
            "learning_rate": self.learning_rate,
        }
        if self.batch >= self.steps_per_epoch:
            self._end_epoch(row)
        try:
            with open(self.metrics_file, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self.metrics_file}: {error.strerror}") from error
        self.events.add([row])

    def end_if_asked(self) -> None:
        """Raise `Interrupted` if a signal has come; the state is saved."""
        if self.interrupts.number is None:
            return
        within = f", step {self.batch} of {self.steps_per_epoch} of the next" if self.batch else ""
        raise Interrupted(
            self.interrupts.number,
            f"interrupted after epoch {self.epoch}{within}; that is saved in {self.folder}: the "
            "same command with --resume goes on from there",
        )

    def _end_epoch(self, row: dict[str, float]) -> None:
        """Save a whole epoch; no line of `metrics.jsonl` is without its checkpoint."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.history.append(row)
        if _SELECTED_BY in row and row[_SELECTED_BY] >= self.best:
            if row[_SELECTED_BY] > self.best:
                self.better_epoch = self.epoch
            self.best, self.best_epoch = row[_SELECTED_BY], self.epoch
            self.best_model = checkpoints.copies(self.distiller.variables)
        self._save(self._state())
        if self.gave_up:
            self.model.stop_training = True

    def _state(self) -> checkpoints.Checkpoint:
        facts = {
            **self.facts,
            "epoch": self.epoch,
            "batch": self.batch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "better_epoch": self.better_epoch,
            "history": list(self.history),
            "seconds": self.seconds,
        }
        return checkpoints.Checkpoint(
            values=checkpoints.copies(self.variables),
            metrics=checkpoints.copies(self.distiller.metrics_variables) if self.batch else [],
            best=self.best_model,
            facts=facts,
            images=self.images,
        )

    def _save_is_due(self) -> bool:
        wait = max(self.seconds_between_saves, self._seconds_of_a_save / _LARGEST_PART)
        return time.perf_counter() - self._saved_at >= wait

    def _save(self, state: checkpoints.Checkpoint) -> None:
        """Save a state in which nothing has diverged; the one saved before is kept, no other."""
        begin = time.perf_counter()
        self.distiller.check_finite()
        path = checkpoints.place(self.folder, state.facts["epoch"], state.facts["batch"])
        checkpoints.save(path, state)
        self._kept = [*(kept for kept in self._kept[-1:] if kept != path), path]
        for other in checkpoints.paths(self.folder):
            if other not in self._kept:
                other.unlink(missing_ok=True)
        self._saved_at = time.perf_counter()
        self._seconds_of_a_save = self._saved_at - begin
