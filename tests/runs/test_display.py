"""What a run prints on its way, by a clock of the test's own."""

import contextlib
import math
import re
import sys
import time
import types
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix.errors import RunError
from tf_cutnmix.runs import display
from tf_cutnmix.runs.config import Config, with_defaults

Train = Callable[..., list[str]]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Epochs of 5 steps of so many seconds after a first one of 60; the lines printed.

    An epoch whose accuracy is None is not validated.
    """
    now, saved = 0.0, []
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def train(
        accuracies: list[float | None],
        *,
        step: float = 1.0,
        validate: float = 0.0,
        feature: tuple[float, ...] = (),
        epochs: int = 100,
        gpus: int = 0,
        terminal: bool = False,
    ) -> list[str]:
        nonlocal now
        terms = ("cross_entropy", "teacher", "feature")
        progress = types.SimpleNamespace(
            **{"save": lambda: saved.append(now), "folder": "runs/here"},
            **{"steps_per_epoch": 5, "best_epoch": 0, "best": -1.0, "rates": [100.0]},
            **{"epoch": 0, "batch": 0, "steps_left": math.inf, "history": []},
        )
        images = types.SimpleNamespace(counts=np.array([5, 5]))
        plan = types.SimpleNamespace(
            **{"config": with_defaults(Config(epochs=epochs)), "steps_per_epoch": 5},
            **{"steps": 5 * epochs},
            splits=types.SimpleNamespace(train=images, validation=images),
        )
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: range(gpus))
        shown = display.Display(progress, plan, terms)
        shown.live = terminal
        best = 0.0
        for epoch, accuracy in enumerate(accuracies):
            shown.on_epoch_begin(epoch)
            for batch in range(5):
                now += 60.0 if epoch == batch == 0 else step
                shown.on_train_batch_end(batch)
            now += validate
            logs = {"loss": 12.5, "cross_entropy": 1.5, "teacher": 0.0, "region_overlap": 0.5}
            logs["feature"] = feature[epoch] if feature else 0.0
            if accuracy is not None:
                logs |= {"val_teacher_accuracy": accuracy, "val_loss": 1.0}
                logs |= {"val_peer1_accuracy": 0.25, "val_peer2_accuracy": 0.75}
                if accuracy >= best:
                    best = progress.best = accuracy
                    progress.best_epoch = epoch + 1
            shown.on_epoch_end(epoch, logs)
        return capsys.readouterr().out.splitlines()

    train.saved = saved  # type: ignore[attr-defined]
    return train


@pytest.mark.parametrize(
    ("step", "epochs", "validate", "left"),
    [
        (1.0, 11, 1.0, "62 s left, until "),  # of short epochs the first one is judged by
        (4.0, 100, 0.0, "33 min left, until "),  # some steps are, and the first one is not
        (8.0, 100, 0.0, "1 h 6 min left, until "),
        (400.0, 100, 0.0, "2 d 7 h left, until [A-Z][a-z]+ [0-9]+ [A-Z][a-z]+ ..:.."),
    ],
)
def test_the_end_is_printed_once(step, epochs, validate, left, train) -> None:
    lines = train([0.5, 0.6], step=step, epochs=epochs, validate=validate)
    assert [line for line in lines if "until" in line] == [lines[0]]
    assert re.match(f"about {left}", lines[0])


def test_columns_stand_under_each_other_and_the_best_epoch_so_far_is_marked(train) -> None:
    lines = train([0.5, 0.4, 0.5, 0.6])
    start = next(k for k, line in enumerate(lines) if "loss" in line)
    header, *rows = lines[start:]
    assert {len(row) for row in rows} == {len(header)}
    assert [row.split()[0] for row in rows] == ["1*", "2", "3", "4*"]
    assert header.split() == [
        *("epoch", "loss", "cross_entropy", "val", "teacher", "val", "peers", "images/s", "left")
    ]
    assert rows[0].split()[:5] == ["1*", "12.5000", "1.5000", "50.00%", "50.00%"]
    assert rows[0].index("50.00%") + 6 == header.index("val teacher") + len("val teacher")


def test_a_term_has_a_column_once_it_is_not_0(train) -> None:
    lines = train([0.5, 0.6, 0.7], feature=(0.0, 0.25, 0.0))
    headers = [line for line in lines if "loss" in line]
    assert ["feature" in header for header in headers] == [False, True]
    assert "0.2500" in lines[-2]
    assert "0.0000" in lines[-1]


def test_epochs_without_validation_leave_its_columns_empty(train) -> None:
    lines = [line.split() for line in train([None, 0.5, None])]
    headers = [line for line in lines if "loss" in line]
    assert ["val" in header for header in headers] == [False, True]
    assert lines[-3][:3] == ["epoch", "loss", "cross_entropy"]
    assert lines[-2][3:5] == ["50.00%", "50.00%"]
    assert lines[-1][:4] == ["3", "12.5000", "1.5000", "100"]


@pytest.mark.parametrize(("step", "gpus", "advised"), [(8.0, 0, 1), (8.0, 1, 0), (4.0, 0, 0)])
def test_a_long_run_without_a_gpu_gets_advice(step, gpus, advised, train) -> None:
    lines = train([0.5], step=step, gpus=gpus)
    assert sum("no GPU" in line and "--epochs" in line for line in lines) == advised


def test_a_log_holds_no_live_line_and_a_terminal_does(train) -> None:
    assert "\x1b" not in "".join(train([0.5, 0.6]))
    shown = "\n".join(train([0.5, 0.6], terminal=True))
    assert "epoch 2 of 100: step 3 of 5, " in shown


def test_a_run_that_cannot_print_any_more_is_saved_at_once(train, monkeypatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(RunError, match=r"^cannot print .*: No space .* is saved in runs/here"):
            train([0.5])
        monkeypatch.undo()
        assert len(train.saved) == 1
        with contextlib.suppress(OSError):
            full.close()
