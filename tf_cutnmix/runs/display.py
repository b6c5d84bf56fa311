"""What a run prints: what is known before it begins, when it will end, a line for each epoch."""

import signal
import statistics
import sys
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tqdm

from tf_cutnmix import escaping, output
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import RunError
from tf_cutnmix.networks.registry import KERAS_NAMES
from tf_cutnmix.runs import cost, outlook, scores
from tf_cutnmix.runs.config import Config, learning_flags
from tf_cutnmix.runs.plan import Plan, mirrors
from tf_cutnmix.runs.progress import Progress
from tf_cutnmix.runs.standstill import STEPS, standstill

_SHORT_RUN = 500
_SECONDS_TO_JUDGE = 10.0
_SECONDS_BETWEEN_UPDATES = 0.5
_CLEAR = "\r\x1b[K"


def overview(plan: Plan, model: OnlineDistiller) -> str:
    """What is known of a run before it begins: a block of lines."""
    config, train = plan.config, plan.splits.train
    size = train.pixels.shape[1:3]
    pixels = [tf.TensorSpec([1, *train.pixels.shape[1:]], tf.uint8)]
    facts = outlook.data(config.dataset, size, train.class_names, plan.splits.counts())
    if config.image_size:
        facts["data"] += f" (--resize={config.resize})"
    flip = "on" if mirrors(config) else "off"
    facts["augmentation"] = f"--augment={config.augment} --crop={config.crop} --flip={flip}"
    for name in dict.fromkeys(config.architectures):
        peer = config.architectures.index(name)
        facts[f"{config.architectures.count(name)} x {name}"] = (
            f"{cost.parameters(model)[f'peer{peer + 1}']:,} parameters, "
            f"{cost.flops(model.peers[peer], pixels) / 1e6:,.1f} MFLOPs an image, each"
        )
    images = f"{plan.batch_size} images"
    if plan.splits.unlabelled is not None:
        facts["unlabelled"] = (
            f"{len(plan.splits.unlabelled.labels):,} images of "
            f"{escaping.one_line(config.unlabelled)}, {plan.ratio} for each labelled one "
            "(--unlabelled_ratio)"
        )
        images = f"{plan.batch_size} labelled images"
    facts["steps"] = (
        f"{config.epochs} epochs of {plan.steps_per_epoch} steps of {images} "
        f"(--batch_size): {config.epochs * plan.steps_per_epoch:,}"
    )
    if config.patience:
        facts["steps"] += (
            f", fewer where {config.patience} epochs bring no better validation accuracy "
            "(--patience)"
        )
    held_out = len(plan.splits.validation.labels)
    if config.exports and plan.calibrates:
        facts["calibration"] = f"of exports, on {held_out:,} validation images (--calibrate)"
    elif config.exports and held_out and config.calibrate == "auto":
        facts["calibration"] = (
            f"of exports: none, {held_out} validation images are under {scores.ENOUGH} "
            "(--calibrate)"
        )
    if config.fine_tunes:
        facts["fine-tuning"] = learning_flags(config)
    return outlook.block(facts)


def remedy(config: Config) -> str:
    """What to try where a run learns nothing."""
    rate = f"--learning_rate={config.learning_rate:g}"
    if config.learning_rate_backbone is not None:
        rate = f"--learning_rate_backbone={config.learning_rate_backbone:g}"
    frozen = config.freeze != "none"
    statistics = f", no --freeze={config.freeze}, whose statistics are fixed" if frozen else ""
    pixels = ", and look at what the network takes: it is given pixels of 0 to 255"
    return f"stop and try another rate than {rate}{statistics}{pixels if config.fine_tunes else ''}"


def hints(plan: Plan, model: OnlineDistiller) -> list[str]:
    """What the user of a run may want to know before it begins."""
    lines = []
    config, train = plan.config, plan.splits.train
    images, size = len(train.labels), plan.batch_size
    steps = plan.steps_per_epoch * config.epochs
    if steps < _SHORT_RUN:
        memory = f"the teacher remembers {1 / (1 - model.momentum):.0f} (--teacher_memory)"
        ramp = f", distillation grows over {model.method.ramp_steps} (--ramp)"
        ramped = any(term.ramped for term in model.terms) and not model.method.fit
        smaller = next((b for b in (64, 32, 16) if images // b * config.epochs >= _SHORT_RUN), 8)
        more = f"; --batch_size={smaller} would give {images // smaller * config.epochs}"
        told = f"{memory}{ramp if ramped else ''}{more if smaller < size else ''}"
        lines.append(f"short run: {steps} steps; {told}")
    if config.balance == "none" and scores.unbalanced(train.counts.tolist()):
        lines.append("classes of unlike size: --balance=weights or sampling makes them count alike")
    for name in sorted(set(config.architectures)):
        if f"keras_{name}" in KERAS_NAMES:
            lines.append(
                f"{name} is the network for small images: keras_{name} is that of ImageNet"
            )
    if config.precision == "float32" and cost.multiplies_in_bfloat16():
        lines.append(
            "this processor multiplies in bfloat16: --precision=mixed_bfloat16 may be faster"
        )
    return lines


class Display(keras.callbacks.Callback):
    """Prints a table that grows by a line an epoch; on a terminal also where in an epoch it is.

    A term that is 0 has no column until it is not.

    Args:
      progress: is called at an epoch's end before this is.
      plan: of the run.
      terms: names of the terms of the loss.
    """

    def __init__(self, progress: Progress, plan: Plan, terms: Sequence[str]) -> None:
        super().__init__()
        self.progress = progress
        self.terms = terms
        self.plan = plan
        self.epochs = plan.config.epochs
        steps = (self.epochs - progress.epoch) * plan.steps_per_epoch - progress.batch
        self.steps = min(steps, progress.steps_left)
        self.live = sys.stdout.isatty()
        self.columns: list[str] = []
        self.done = 0
        self.seconds: list[float] = []
        self._told = self._warned = False
        self._best = progress.best
        self._first_step_at = 0.0
        self._updated_at = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch, self._batch = epoch + 1, 0
        self._epoch_began_at = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        self.done += 1
        self._batch += 1
        if self.done == 1:
            # The first step waits for what is compiled once.
            self._first_step_at = now
        elif not self._told and now - self._first_step_at > _SECONDS_TO_JUDGE:
            self._tell(self._seconds_left(now))
        if self.live and now - self._updated_at > _SECONDS_BETWEEN_UPDATES:
            self._updated_at = now
            steps = f"step {self._batch} of {self.progress.steps_per_epoch}"
            left = f", {outlook.duration(self._seconds_left(now))} left" if self.done > 1 else ""
            bar = tqdm.tqdm.format_meter(
                self._batch, self.progress.steps_per_epoch, 0, bar_format="{bar:20}"
            )
            self._print(
                f"{_CLEAR}{bar} epoch {self._epoch} of {self.epochs}: {steps}{left}", end=""
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        now = time.perf_counter()
        self.seconds.append(now - self._epoch_began_at)
        if not self._told:
            self._tell(self._seconds_left(now))
        if self.live:
            self._print(_CLEAR, end="")
        better = self.progress.best > self._best
        self._best = self.progress.best
        row = {
            "epoch": f"{epoch + 1}{'*' if better else ' '}",
            **_cells(logs, self.terms),
            "images/s": f"{self.progress.rates[-1]:.0f}",
            "left": outlook.duration(self._seconds_left(now)),
        }
        columns = [name for name in row if name in self.columns or _says_something(row[name])]
        # Not every epoch is validated.
        columns = [*columns[:-2], *(n for n in self.columns if n not in row), *columns[-2:]]
        if columns != self.columns:
            if not self.columns and self.progress.best_epoch:
                self._print(
                    "* better on the validation split than all before; of equal epochs the latest "
                    "is kept"
                )
            self.columns = columns
            self._print("  ".join(f"{name:>{_width(name)}}" for name in columns))
        self._print("  ".join(f"{row.get(n, ''):>{_width(n)}}" for n in columns))
        if not self._warned and (words := self._standstill()):
            self._warned = True
            self._print(f"nothing is learnt: {words}; {remedy(self.plan.config)}")

    def _standstill(self) -> str:
        plan, config = self.plan, self.plan.config
        counts = plan.splits.train.counts
        # With a balance classes count alike.
        counted = counts if config.balance == "none" else np.sign(counts)
        return standstill(
            self.progress.history,
            steps_per_epoch=plan.steps_per_epoch,
            peers=len(config.architectures),
            shares=(counted / counted.sum()).tolist(),
            held_out=plan.splits.validation.counts.tolist(),
            from_step=max(STEPS, round(config.warmup * plan.steps)),
        )

    def _seconds_left(self, now: float) -> float:
        """By whole epochs where there are some after the first, with all that is done in them."""
        steps = self.steps - self.done
        if len(self.seconds) > 1:
            return steps * statistics.fmean(self.seconds[1:]) / self.progress.steps_per_epoch
        return steps * (now - self._first_step_at) / max(1, self.done - 1)

    def _tell(self, seconds: float) -> None:
        self._told = True
        if self.live:
            self._print(_CLEAR, end="")
        self._print(f"about {outlook.duration(seconds)} left, until {outlook.end(seconds)}")
        if words := outlook.advice(seconds, len(tf.config.list_physical_devices("GPU"))):
            self._print(words)

    def _print(self, text: str, end: str = "\n") -> None:
        """Print at once; where nobody reads any longer, the run ends as if a signal had come.

        Raises:
          RunError: it cannot be printed, and what is done is saved.
        """
        try:
            print(text, end=end, flush=True)
        except BrokenPipeError:
            output.drop(sys.stdout)
            self.progress.interrupts.number = signal.SIGPIPE
        except OSError as error:
            self.progress.save()
            raise RunError(
                f"cannot print how it goes: {error.strerror}; that is saved in "
                f"{self.progress.folder}: the same command with --resume goes on from there"
            ) from error


def _cells(logs: dict[str, float], terms: Sequence[str]) -> dict[str, str]:
    """The loss and its terms, then accuracies on the validation split in percent."""
    cells = {name: f"{logs[name]:.4f}" for name in ("loss", *terms) if name in logs}
    for name in ("teacher", "ensemble"):
        if f"val_{name}_accuracy" in logs:
            cells[f"val {name}"] = f"{logs[f'val_{name}_accuracy']:.2%}"
    peers = [v for n, v in logs.items() if n.startswith("val_peer") and n.endswith("_accuracy")]
    if peers:
        cells["val peers"] = f"{statistics.fmean(peers):.2%}"
    return cells


def _says_something(cell: str) -> bool:
    return cell.strip("0.") != ""


def _width(name: str) -> int:
    return max(len(name), 9)
