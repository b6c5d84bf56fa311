"""Faults: a run is broken at random moments, gone on with, and compared to one left in peace."""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn import datasets

from benchmarks import cluster, turns
from benchmarks.tables import Row
from tf_cutnmix.runs import checkpoints

TITLE = (
    "A run on pictures of digits is broken at a random moment, then gone on with. It survived if "
    "the command said what it should and the run ended as the one that nothing happened to: "
    "weights, slots, averages, the best model and every figure of every epoch. One whose second "
    "worker was killed goes on with one process, which rounds otherwise: it need only end. Work "
    "lost is the time between the state that was gone on from and the fault; a signal waits until "
    "the process has ended. A try of exports is three signals, each in an export of its own."
)
_SETTINGS = {
    "train_split": "train[:640]",
    "test_split": "test[:100]",
    "validation_fraction": 0.25,
    "num_peers": 1,
    "method": "independent",
    "mix": "mixup",
    "batch_size": 8,
    "learning_rate": 0.01,
    "save_minutes": 0.02,
    "export": "",
}
# In a try of exports.
_SIGNALS = 3
_WHOLE = "whole"
_SAID_FULL = "File too large"
_SAID_RESUME = "--resume goes on from there"
_SAID_CHANGED = "holds other images than"
_SAID_TWO = "is being written by process"
_SAID_ALONE = "another of the 2 workers has ended"


class Trial(NamedTuple):
    """What came of a fault.

    Attributes:
      as_said: whether the command ended as it should.
      lost: seconds of work, 0 where nothing was ended.
      waited: seconds from a signal to the end, None where there is no signal.
    """

    as_said: bool
    lost: float
    waited: float | None = None


class Fault(NamedTuple):
    """A kind of fault.

    Attributes:
      cause: a function of a run's processes, its folder and its epochs; None comes of it if the
        run had ended before.
      workers: that the run has; 0 if it has ended.
      piped: whether it prints into a pipe in place of a file.
    """

    cause: Callable[..., Trial | None]
    workers: int = 1
    piped: bool = False


def rows(quick: bool, minutes: float = 60.0) -> Iterator[Row]:
    """A row for each kind of fault, one that was tried least until time is over; quick: once."""
    # What is started in the background ignores interrupts, and so would the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    epochs = 6 if quick else 12
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        _draw_pictures(pathlib.Path(scratch) / "pictures")
        whole = pathlib.Path(scratch) / _WHOLE
        begin = time.perf_counter()
        seconds = _leave_in_peace(whole, epochs)
        tried: dict[str, list[tuple[Trial, bool]]] = {name: [] for name in KINDS}
        while not all(tried.values()) or (time.perf_counter() - begin < 60 * minutes and not quick):
            name = min(KINDS, key=lambda kind: len(tried[kind]))
            fault, moment = KINDS[name], moments.random() * seconds
            folder = pathlib.Path(scratch) / f"{name}{moment}".replace(" ", "_")
            trial = _try(fault, folder, epochs, moment)
            if trial is None:
                continue
            _go_on(folder, epochs)
            same = fault.workers > 1 or _equal(folder, whole)
            tried[name].append((trial, same))
            print(f"{name}: {trial}, {'equal' if same else 'other'}", file=sys.stderr, flush=True)
    for name, trials in tried.items():
        lost = turns.summary([trial.lost for trial, _ in trials])
        waits = [trial.waited for trial, _ in trials if trial.waited is not None]
        yield {
            "fault": name,
            "tried": len(trials),
            "survived": sum(trial.as_said and same for trial, same in trials),
            "ended as said": sum(trial.as_said for trial, _ in trials),
            "equal": sum(same for _, same in trials),
            "work lost, s": lost,
            "most work lost, s": lost["max"],
            "longest wait, s": max(waits, default=None),
        }


def _command(folder: pathlib.Path, epochs: int) -> list[str]:
    flags = {
        **_SETTINGS,
        "dataset": folder.parent / "pictures",
        "epochs": epochs,
        "workdir": folder,
        "export_dir": folder / "exports",
    }
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    return [sys.executable, "-m", "tf_cutnmix.train", *arguments, "--resume"]


def _leave_in_peace(folder: pathlib.Path, epochs: int) -> float:
    """Make a run; seconds from its first checkpoint to its end."""
    (run,) = _start(folder, epochs)
    _await_checkpoint(run, folder)
    begin = time.perf_counter()
    _, said = run.communicate()
    if run.returncode:
        raise RuntimeError(f"the run that nothing happens to failed: {said}")
    return time.perf_counter() - begin


def _go_on(folder: pathlib.Path, epochs: int) -> None:
    """Make a run, or what is left of it."""
    subprocess.run(_command(folder, epochs), capture_output=True, check=True)


def _try(fault: Fault, folder: pathlib.Path, epochs: int, seconds: float) -> Trial | None:
    """Break a run so many seconds after its first checkpoint; None if it ends before that."""
    if not fault.workers:
        shutil.copytree(folder.with_name(_WHOLE), folder)
        return fault.cause(folder, epochs)
    runs = _start(folder, epochs, fault.workers, fault.piped)
    _await_checkpoint(runs[0], folder)
    deadline = time.perf_counter() + seconds
    while runs[0].poll() is None and time.perf_counter() < deadline:
        time.sleep(0.01)
    return fault.cause(*runs, folder, epochs)


def _await_checkpoint(run: subprocess.Popen, folder: pathlib.Path) -> None:
    while run.poll() is None and not checkpoints.paths(folder):
        time.sleep(0.01)


def _start(
    folder: pathlib.Path, epochs: int, workers: int = 1, piped: bool = False
) -> list[subprocess.Popen]:
    """The process of a run, or its processes, the one that writes first."""
    runs = []
    for number, told in enumerate(cluster.configs(workers)):
        flags = ["--distribute=multi_worker"] if workers > 1 else []
        with open(f"{folder}.{number}.log", "w") as log:
            run = subprocess.Popen(
                [*_command(folder, epochs), *flags],
                env={**os.environ, "TF_CONFIG": told},
                stdout=subprocess.PIPE if piped else log,
                stderr=subprocess.PIPE,
                text=True,
            )
        runs.append(run)
    return runs


def _signalled(number: signal.Signals, code: int, words: str) -> Callable[..., Trial | None]:
    def fault(process: subprocess.Popen, folder: pathlib.Path, epochs: int) -> Trial | None:
        ended, moment = (folder / "result.json").exists(), time.time()
        process.send_signal(number)
        _, said = process.communicate()
        if ended or process.returncode == 0:
            return None
        as_said, waited = process.returncode == code and words in said, time.time() - moment
        return Trial(as_said, _lost(folder, moment), round(waited, 2))

    return fault


def _fill_the_disk(process: subprocess.Popen, folder: pathlib.Path, epochs: int) -> Trial | None:
    """A limit on the size of files stands for a full disk: the system refuses to write on."""
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**16, 2**16))
    _, said = process.communicate()
    if process.returncode == 0:
        return None
    return Trial(process.returncode == 1 and _SAID_FULL in said, _lost(folder, time.time()))


def _damage(process: subprocess.Popen, folder: pathlib.Path, epochs: int) -> Trial | None:
    """The latest checkpoint of a killed run loses its second half."""
    trial = _KILL(process, folder, epochs)
    latest, *former = checkpoints.paths(folder)
    if trial is None or not former:
        return None
    between = latest.stat().st_mtime - former[0].stat().st_mtime
    latest.write_bytes(latest.read_bytes()[: latest.stat().st_size // 2])
    return trial._replace(lost=trial.lost + between)


def _close_the_pipe(process: subprocess.Popen, folder: pathlib.Path, epochs: int) -> Trial | None:
    """Whoever reads what a run prints ends, as `head` does."""
    ended, moment = (folder / "result.json").exists(), time.time()
    process.stdout.close()
    said = process.stderr.read()
    if process.wait() == 0 or ended:
        return None
    as_said = process.returncode == 128 + signal.SIGPIPE and _SAID_RESUME in said
    return Trial(as_said, _lost(folder, moment))


def _change_pictures(process: subprocess.Popen, folder: pathlib.Path, epochs: int) -> Trial | None:
    """The pictures of a class are others when a killed run is gone on with, and then as before."""
    trial = _KILL(process, folder, epochs)
    if trial is None:
        return None
    # All of one class: which of them a slice holds is drawn.
    pictures = list((folder.parent / "pictures" / "train" / "0").glob("*.png"))
    before = [picture.read_bytes() for picture in pictures]
    for picture in pictures:
        Image.new("RGB", (8, 8), "red").save(picture)
    again = subprocess.run(_command(folder, epochs), capture_output=True, text=True, check=False)
    for picture, content in zip(pictures, before, strict=True):
        picture.write_bytes(content)
    return trial._replace(as_said=again.returncode == 1 and _SAID_CHANGED in again.stderr)


def _end_exports(folder: pathlib.Path, epochs: int) -> Trial:
    """Exports of a run that has ended."""
    command = [sys.executable, "-m", "tf_cutnmix.export", f"--run={folder}"]
    return _signalled_exports(command, folder)


def _end_sweeps(folder: pathlib.Path, epochs: int) -> Trial:
    """Sweeps that export their only run, which has ended."""
    sweep = folder.with_name(f"{folder.name}_sweep")
    sweep.mkdir()
    cell = folder.rename(sweep / "seed=0")
    flags = [f for f in _command(sweep, epochs)[3:] if not f.startswith("--export")]
    command = [sys.executable, "-m", "tf_cutnmix.sweep", *flags, "--grid=seed=0"]
    trial = _signalled_exports(command, cell)
    said = (cell / "log.txt").read_text()
    cell.rename(folder)
    return trial._replace(as_said=trial.as_said and "Traceback" not in said)


def _signalled_exports(command: list[str], run: pathlib.Path) -> Trial:
    """SIGTERM at random moments of a command that exports a run; the worst that came of it."""
    result = run / "result.json"
    without_exports = result.read_bytes()
    seconds: float | None = None
    trials: list[Trial] = []
    while len(trials) < _SIGNALS:
        result.write_bytes(without_exports)
        begin = time.perf_counter()
        export = subprocess.Popen(
            [*command, "--export=peer"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            export.wait(seconds and random.random() * seconds)
        moment = time.perf_counter()
        if export.poll() == 0:
            # The first one shows how long it takes, as does one that was quicker.
            seconds = moment - begin
            continue
        export.terminate()
        _, said = export.communicate()
        # Before Python runs the command the system ends it.
        as_said = (export.returncode, said) in ((143, "interrupted\n"), (-signal.SIGTERM, ""))
        if not as_said:
            print(f"{export.returncode}: {said}", file=sys.stderr)
        trials.append(Trial(as_said, moment - begin, time.perf_counter() - moment))
    result.write_bytes(without_exports)
    as_said, lost, waited = zip(*trials, strict=True)
    return Trial(all(as_said), round(max(lost), 2), round(max(waited), 2))


def _write_twice(process: subprocess.Popen, folder: pathlib.Path, epochs: int) -> Trial | None:
    """A second process on the same folder; the first stands still meanwhile, and goes on."""
    process.send_signal(signal.SIGSTOP)
    if process.poll() is not None or (folder / "result.json").exists():
        process.send_signal(signal.SIGCONT)
        process.communicate()
        return None
    second = subprocess.run(_command(folder, epochs), capture_output=True, text=True, check=False)
    process.send_signal(signal.SIGCONT)
    process.communicate()
    refused = second.returncode == 1 and _SAID_TWO in second.stderr
    return Trial(process.returncode == 0 and refused, 0.0)


def _set_the_clock_back(
    process: subprocess.Popen, folder: pathlib.Path, epochs: int
) -> Trial | None:
    """All that was written before is of tomorrow."""
    trial = _KILL(process, folder, epochs)
    tomorrow = time.time() + 86400
    for path in folder.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    return trial


def _kill_a_worker(
    chief: subprocess.Popen, other: subprocess.Popen, folder: pathlib.Path, epochs: int
) -> Trial | None:
    """The one of two workers that does not write is killed."""
    moment = time.time()
    other.kill()
    _, said = chief.communicate()
    other.communicate()
    if chief.returncode == 0:
        return None
    return Trial(chief.returncode == 1 and _SAID_ALONE in said, _lost(folder, moment))


def _lost(folder: pathlib.Path, moment: float) -> float:
    """Seconds from the latest checkpoint to a moment; none if it was saved after that."""
    return max(0.0, moment - checkpoints.paths(folder)[0].stat().st_mtime)


def _equal(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two runs ended in the same state, with the same figures but those of time."""
    first, second = (checkpoints.read(checkpoints.paths(folder)[0]) for folder in (one, other))
    values = zip([*first.values, *first.best], [*second.values, *second.best], strict=True)
    return _figures(first) == _figures(second) and all(np.array_equal(a, b) for a, b in values)


def _figures(checkpoint: checkpoints.Checkpoint) -> list[dict[str, Any]]:
    rows = checkpoint.facts["history"]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def _draw_pictures(folder: pathlib.Path) -> None:
    """Scikit-learn's digits as files."""
    digits = datasets.load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / ("train" if number < 1200 else "test") / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).convert("RGB").save(path)


_KILL = _signalled(signal.SIGKILL, -signal.SIGKILL, "")
# By their names.
KINDS = {
    "SIGKILL": Fault(_KILL),
    "SIGTERM": Fault(_signalled(signal.SIGTERM, 143, _SAID_RESUME)),
    "SIGINT": Fault(_signalled(signal.SIGINT, 130, _SAID_RESUME)),
    "full disk": Fault(_fill_the_disk),
    "damaged checkpoint": Fault(_damage),
    "closed pipe": Fault(_close_the_pipe, piped=True),
    "changed pictures": Fault(_change_pictures),
    "SIGTERM in exports": Fault(_end_exports, workers=0),
    "SIGTERM in exports of a sweep": Fault(_end_sweeps, workers=0),
    "two writers": Fault(_write_twice),
    "clock set back": Fault(_set_the_clock_back),
    "killed worker": Fault(_kill_a_worker, workers=2),
}
