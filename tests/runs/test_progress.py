"""What a run saves on its way: signals, damage, lost files, longer runs. All without graphs."""

import json
import os
import pathlib
import shutil
import signal
import types
from collections.abc import Iterator
from typing import Any

import keras
import pytest

from tests.runs.short_runs import (
    ALONE,
    Run,
    assert_equal_to_the_bit,
    metrics,
    progress_of,
    run,
    state,
)
from tf_cutnmix import files
from tf_cutnmix.errors import InputError, Interrupted, RunError
from tf_cutnmix.runs import checkpoints, predictions, progress
from tf_cutnmix.runs.progress import Progress

pytestmark = [pytest.mark.usefixtures("all_eagerly"), pytest.mark.long]

BASE: dict[str, Any] = {
    **ALONE,
    "train_split": "train[:192]",
    "validation_fraction": 0.25,
    "epochs": 2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("whole") / "run", BASE)


@pytest.fixture
def copied(whole, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(whole.folder, tmp_path / "run"))


@pytest.fixture(autouse=True)
def _signals_are_heard() -> Iterator[None]:
    """In the background of a shell or after nohup, pytest ignores signals, and so do its runs."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send_at(monkeypatch: pytest.MonkeyPatch, event: str, call: int, number: signal.Signals) -> None:
    """Have a run get a signal when an event of Keras' comes for the so manieth time."""
    calls = []
    handle = getattr(Progress, event)

    def counted(self: Progress, batch: int, logs: dict | None = None) -> None:
        calls.append(batch)
        if len(calls) == call:
            signal.raise_signal(number)
        handle(self, batch, logs)

    monkeypatch.setattr(Progress, event, counted)


SIGNALS = [
    (signal.SIGTERM, "on_train_batch_begin", 1, (0, 1), "after epoch 0, step 1 of 4 of the"),
    (signal.SIGHUP, "on_test_batch_end", 1, (0, 3), "after epoch 0, step 3 of 4"),
    (signal.SIGINT, "on_epoch_end", 1, (1, 0), "after epoch 1; that is saved"),
    (signal.SIGINT, "on_train_batch_end", 2, (1, 2), "step 2 of 4"),
]


def test_signals_anywhere_save_the_run_which_goes_on_to_the_bit(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    for number, event, call, saved, words in SIGNALS:
        with monkeypatch.context() as patch:
            send_at(patch, event, call, number)
            with pytest.raises(Interrupted, match=words) as caught:
                run(folder, BASE, resume=True)
        assert caught.value.number == number
        assert "--resume" in str(caught.value)
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
        assert progress_of(folder) == saved
    run(folder, BASE, resume=True)
    assert_equal_to_the_bit(folder, whole.folder)
    assert len(checkpoints.paths(folder)) == 2


@pytest.mark.parametrize(("every", "epochs"), [(1, 3), (2, 4)])
def test_patience_ends_a_run_where_keras_does_and_a_resumed_one_to_the_bit(
    every, epochs, tmp_path, monkeypatch
):
    """One image, and a rate at which nothing is learnt: the first look is the best one."""
    one_image = {"validation_split": "test[:1]", "validation_fraction": 0.0, "patience": 2}
    settings = {**BASE, **one_image, "learning_rate": 1e-9, "epochs": 9, "validation_every": every}
    settings["train_split"] = "train[:64]"
    ended = run(tmp_path / "run", settings)
    assert (ended.result["last"]["epoch"], ended.result["gave_up"]) == (epochs, True)
    looks = [row for row in metrics(tmp_path / "run") if "val_teacher_accuracy" in row]
    keras_own = keras.callbacks.EarlyStopping(
        "val_teacher_accuracy", patience=-(-2 // every), mode="max"
    )
    keras_own.set_model(types.SimpleNamespace(stop_training=False))
    keras_own.on_train_begin()
    for number, row in enumerate(looks):
        assert not keras_own.model.stop_training
        keras_own.on_epoch_end(number, row)
    assert keras_own.model.stop_training
    with monkeypatch.context() as patch:
        send_at(patch, "on_train_batch_end", 2 * epochs - 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run(tmp_path / "again", settings)
    for _ in range(2):
        run(tmp_path / "again", settings, resume=True)
        assert_equal_to_the_bit(tmp_path / "again", tmp_path / "run")


def print_into_a_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as pipe:
        print("nobody reads this", file=pipe)


@pytest.mark.parametrize(
    ("cause", "number"),
    [
        (lambda: signal.raise_signal(signal.SIGINT), signal.SIGINT),
        (print_into_a_closed_pipe, signal.SIGPIPE),
    ],
    ids=["Ctrl-C", "closed pipe"],
)
def test_an_interrupt_while_results_are_made_names_the_way_to_go_on(
    cause, number, whole, copied, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "save", lambda *_: cause())
        words = "run has what was saved: the same command with --resume"
        with pytest.raises(Interrupted, match=words) as caught:
            run(copied, BASE, resume=True)
    assert caught.value.number == number
    assert run(copied, BASE, resume=True).result["last"] == whole.result["last"]
    assert_equal_to_the_bit(copied, whole.folder)


def test_a_second_interrupt_does_not_wait_and_an_ignored_one_stays_ignored(tmp_path, monkeypatch):
    send_at(monkeypatch, "on_train_batch_begin", 2, signal.SIGINT)
    send_at(monkeypatch, "on_train_batch_begin", 2, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path / "run", BASE)
    assert type(caught.value) is KeyboardInterrupt
    send_at(monkeypatch, "on_train_batch_begin", 1, signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(tmp_path / "ignored", BASE, epochs=1)


@pytest.mark.parametrize(
    ("minutes", "part", "saves"),
    [
        (1e-9, 1e9, [(0, 1), (0, 2), (0, 3), (1, 0)]),
        (1e-9, 1e-9, [(0, 1), (1, 0)]),
    ],
)
def test_a_run_is_saved_within_an_epoch_as_often_as_it_may_cost(
    minutes, part, saves, tmp_path, monkeypatch
):
    saved, save = [], checkpoints.save

    def noted(path: pathlib.Path, checkpoint: checkpoints.Checkpoint) -> None:
        saved.append((checkpoint.facts["epoch"], checkpoint.facts["batch"]))
        save(path, checkpoint)

    monkeypatch.setattr(checkpoints, "save", noted)
    monkeypatch.setattr(progress, "_LARGEST_PART", part)
    run(tmp_path / "run", BASE, epochs=1, save_minutes=minutes)
    assert saved == saves


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_and_lost_files_are_made_anew_from_the_checkpoint_before(whole, copied, capsys):
    truncate(checkpoints.paths(copied)[0])
    (copied / "flags.cfg").unlink()
    (copied / "metrics.jsonl").write_text('{"epoch": 1}\n{"ep')
    shutil.rmtree(copied / "tensorboard")
    left = copied / "checkpoints" / ".0123.tmp"
    left.touch()
    assert run(copied, BASE, resume=True).result["last"] == whole.result["last"]
    printed = capsys.readouterr().out
    assert "cannot read the checkpoint" in printed
    assert "00000002-00000000.npz" in printed
    assert "the checkpoint before it is used" in printed
    assert "flags.cfg is missing: it is written again" in printed
    assert_equal_to_the_bit(copied, whole.folder)
    flags = (copied / "flags.cfg").read_text()
    assert flags.replace(str(copied), str(whole.folder)) == (whole.folder / "flags.cfg").read_text()
    assert list((copied / "tensorboard" / "train").iterdir())
    assert not left.exists()


def test_without_a_checkpoint_of_its_own_a_run_is_refused_with_the_way_out(copied):
    first = state(copied)
    for path in checkpoints.paths(copied):
        checkpoints.save(path, first._replace(values=first.values[1:]))
    with pytest.raises(RunError, match="the checkpoint is of another model"):
        run(copied, BASE, resume=True)
    for path in checkpoints.paths(copied):
        truncate(path)
    with pytest.raises(RunError, match=r"cannot read .*nor any before it: .*--overwrite"):
        run(copied, BASE, resume=True)


@pytest.mark.parametrize("name", ["flags.cfg", "metrics.jsonl", "result.json", "checkpoints"])
def test_what_is_left_of_a_run_is_never_overwritten_unasked(copied, name):
    for path in copied.iterdir():
        if path.name != name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match="holds a run already"):
        run(copied, BASE)
    if name in ("metrics.jsonl", "result.json"):
        with pytest.raises(InputError, match=f"has {name} but no checkpoint"):
            run(copied, BASE, resume=True)
    assert [path.name for path in copied.iterdir()] == [name]


def test_the_settings_of_a_run_are_known_without_its_flags(copied):
    (copied / "flags.cfg").unlink()
    with pytest.raises(InputError, match=r"was begun with --seed=0, not with --seed=1"):
        run(copied, BASE, resume=True, seed=1)


def test_settings_that_came_later_have_their_defaults_in_a_run_of_before(whole, copied):
    newer = {"views": "own", "share": "stem", "seed": 1}
    missing = tuple(f"--{name}=" for name in newer)
    first = state(copied)
    lines = first.facts["flags"].splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith(missing))
    assert len(kept.splitlines()) == len(lines) - len(newer)

    def as_before(flags: str) -> None:
        facts = {**first.facts, "flags": flags}
        checkpoints.save(checkpoints.paths(copied)[0], first._replace(facts=facts))

    as_before(kept + "--ramp=0.25\n")
    with pytest.raises(InputError, match=r"was begun with --ramp=0.25, not without: "):
        run(copied, BASE, resume=True)
    as_before(kept)
    for name, value in newer.items():
        with pytest.raises(InputError, match=f"was begun with --{name}=.*, not with --{name}="):
            run(copied, BASE, resume=True, **{name: value})
    assert run(copied, BASE, resume=True).result["last"] == whole.result["last"]


def test_a_finished_run_is_made_longer_and_repeated_as_one(tmp_path, monkeypatch):
    first = run(tmp_path / "run", BASE, epochs=1)
    with monkeypatch.context() as patch:
        send_at(patch, "on_train_batch_begin", 2, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run(tmp_path / "run", BASE, resume=True)
    assert not (tmp_path / "run" / "result.json").exists()
    kept = json.loads((tmp_path / "run" / "result_1_epochs.json").read_text())
    assert kept == first.result
    with pytest.raises(InputError, match="was begun with --epochs=2, not with --epochs=9"):
        run(tmp_path / "run", BASE, epochs=9, resume=True)
    longer = run(tmp_path / "run", BASE, resume=True)
    assert "--restarts=1\n" in (tmp_path / "run" / "flags.cfg").read_text()
    again = run(tmp_path / "again", BASE, restarts="1")
    assert again.result["last"] == longer.result["last"]
    assert_equal_to_the_bit(tmp_path / "run", tmp_path / "again")


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
def test_a_second_writer_is_refused_with_the_name_of_the_first_one(how, copied):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with (
        files.locked(copied),
        pytest.raises(InputError, match=r"is being written by process \d+ on \S+: wait"),
    ):
        run(copied, BASE, **how)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
