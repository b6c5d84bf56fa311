"""What a run prints on its way, by a clock of the test's own."""

import types
from collections.abc import Callable

import pytest

from tf_cutnmix.runs import display

TERMS = ("cross_entropy", "teacher", "feature")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(display.time, "perf_counter", clock.perf_counter)
    return clock


Train = Callable[..., list[str]]


@pytest.fixture
def train(clock: Clock, capsys: pytest.CaptureFixture[str]) -> Train:
    """Epochs of 5 steps of so many seconds after a first one of 60; the lines printed."""

    def train(
        accuracies: list[float],
        *,
        step: float = 1.0,
        validate: float = 0.0,
        feature: tuple[float, ...] = (),
        epochs: int = 100,
        gpus: int = 0,
        terminal: bool = False,
    ) -> list[str]:
        progress = types.SimpleNamespace(steps_per_epoch=5, best_epoch=0, rates=[100.0])
        shown = display.Display(progress, terms=TERMS, epochs=epochs, steps=5 * epochs, gpus=gpus)
        shown.live = terminal
        for epoch, accuracy in enumerate(accuracies):
            shown.on_epoch_begin(epoch)
            for batch in range(5):
                clock.now += 60.0 if epoch == batch == 0 else step
                shown.on_train_batch_end(batch)
            clock.now += validate
            if accuracy >= max(accuracies[: epoch + 1]):
                progress.best_epoch = epoch + 1
            logs = {"loss": 12.5, "cross_entropy": 1.5, "teacher": 0.0, "region_overlap": 0.5}
            logs["feature"] = feature[epoch] if feature else 0.0
            logs |= {"val_teacher_accuracy": accuracy, "val_loss": 1.0}
            logs |= {"val_peer1_accuracy": 0.25, "val_peer2_accuracy": 0.75}
            shown.on_epoch_end(epoch, logs)
        return capsys.readouterr().out.splitlines()

    return train


def test_the_end_is_told_once_after_some_steps_and_the_first_one_does_not_count(train) -> None:
    lines = train([0.5, 0.6], step=4.0)
    assert [line for line in lines if "until" in line] == [lines[0]]
    assert lines[0].startswith("about 33 min left, until ")


def test_of_short_epochs_the_first_one_is_judged_by(train) -> None:
    assert train([0.5], epochs=11, validate=1.0)[0].startswith("about 62 s left, until ")


def test_later_lines_go_by_whole_epochs_with_validation(train) -> None:
    lines = train([0.5, 0.6, 0.7], step=1.0, validate=5.0, epochs=9)
    assert lines[-1].endswith("60 s")


def test_columns_stand_under_each_other_and_the_best_epoch_so_far_is_marked(train) -> None:
    lines = train([0.5, 0.4, 0.5, 0.3])
    start = next(k for k, line in enumerate(lines) if "loss" in line)
    header, *rows = lines[start:]
    assert len(rows) == 4
    assert {len(row) for row in rows} == {len(header)}
    assert [row.split()[0] for row in rows] == ["1*", "2", "3*", "4"]
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


@pytest.mark.parametrize(("step", "gpus", "told"), [(8.0, 0, 1), (8.0, 1, 0), (4.0, 0, 0)])
def test_a_long_run_without_a_gpu_gets_advice(step, gpus, told, train) -> None:
    lines = train([0.5], step=step, gpus=gpus)
    assert sum("no GPU" in line for line in lines) == told


def test_a_log_holds_no_live_line_and_a_terminal_does(train) -> None:
    assert "\x1b" not in "".join(train([0.5, 0.6]))
    shown = "\n".join(train([0.5, 0.6], terminal=True))
    assert "epoch 2 of 100: step 3 of 5, " in shown


def test_epochs_without_validation_leave_its_columns_empty(clock, capsys) -> None:
    progress = types.SimpleNamespace(steps_per_epoch=1, best_epoch=0, rates=[7.0])
    shown = display.Display(progress, terms=TERMS, epochs=3, steps=3, gpus=0)
    for epoch, logs in enumerate([{}, {"val_teacher_accuracy": 0.5}, {}]):
        shown.on_epoch_begin(epoch)
        clock.now += 2.0
        shown.on_train_batch_end(0)
        shown.on_epoch_end(epoch, {"loss": 1.25, **logs})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-5:]]
    assert lines == [
        ["epoch", "loss", "images/s", "left"],
        ["1", "1.2500", "7", "0", "s"],
        ["epoch", "loss", "val", "teacher", "images/s", "left"],
        ["2", "1.2500", "50.00%", "7", "2", "s"],
        ["3", "1.2500", "7", "0", "s"],
    ]
