"""Runs side by side, each in a process and on cores of its own.

The processes are forked from a server that imports TensorFlow once, which saves each run six
seconds of a core: as much as a third of a run of one epoch on digits.
"""

import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import psutil

from tf_cutnmix import files
from tf_cutnmix.errors import Interrupted, RunError, last_line
from tf_cutnmix.runs.config import Config

_SECONDS_TO_END = 20.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tf_cutnmix.runs.experiment", "tf_cutnmix.reporting.run_page"])


class _Run(NamedTuple):
    name: str
    config: Config
    process: BaseProcess
    begin: float
    share: int


class Runs:
    """Makes runs, each in a process of its own; leaving its context ends those still running.

    A run whose number of threads is set is kept to its share of the cores.

    Args:
      at_once: how many are made at a time.
      run_minutes: that a run may take, after which it is ended and has failed; 0: any time.
    """

    def __init__(self, at_once: int, run_minutes: float = 0) -> None:
        self.at_once = at_once
        self.run_minutes = run_minutes
        self._running: list[_Run] = []

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *_: object) -> None:
        _end([run.process for run in self._running])

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    def start(self, name: str, config: Config) -> None:
        """Begin a run."""
        folder = pathlib.Path(config.workdir)
        files.make_folder(folder)
        (folder / "error.txt").unlink(missing_ok=True)
        (folder / "log.txt").touch()
        share = min({*range(len(self) + 1)} - {run.share for run in self._running})
        cores = available_cores()
        own = cores[share % len(cores) :: self.at_once] if config.threads else cores
        process = _CONTEXT.Process(target=_train, args=(config, own))
        process.start()
        self._running.append(_Run(name, config, process, time.perf_counter(), share))

    def wait(self) -> tuple[str, str, float]:
        """Wait until one ends, by itself or because it takes too long.

        Returns:
          Its name; why it failed, in one line, or ""; the seconds that it took.
        """
        # They began in this order.
        limit = 60 * self.run_minutes
        left = max(0.0, self._running[0].begin + limit - time.perf_counter()) if limit else None
        ended = connection.wait([run.process.sentinel for run in self._running], left)
        run, *_ = [run for run in self._running if run.process.sentinel in ended] or self._running
        if not ended:
            _end([run.process])
        run.process.join()
        self._running.remove(run)
        folder = pathlib.Path(run.config.workdir)
        reason = _why_it_failed(run.process, folder / "log.txt")
        if reason and not ended:
            reason = f"it took more than --run_minutes={self.run_minutes:g} and was ended"
        if reason:
            files.write(folder / "error.txt", f"{reason}\n".encode())
        return run.name, reason, time.perf_counter() - run.begin


def check_names(configs: Sequence[Config]) -> BaseException | None:
    """The error for the first name in the settings that nothing knows, if there is one.

    That takes TensorFlow, which this process does without: its memory would be missing beside
    those of the runs. The server that imports it starts here, and keeps stderr as it is here.
    """
    # These reach every process of a terminal, and the runs leave it to the sweep to end them.
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGHUP)}
    forkserver.ensure_running()
    for number, handler in before.items():
        signal.signal(number, handler)
    with ProcessPoolExecutor(1, _CONTEXT) as pool:
        return pool.submit(_check_names, configs).exception()


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def runs_that_fit(bytes_each: int, threads_each: int) -> int:
    """How many runs the cores and the free memory have room for, at least 1.

    Args:
      bytes_each: that a run holds.
      threads_each: that a run has; 0 for one on each core.
    """
    cores = len(available_cores())
    free = psutil.virtual_memory().available
    return max(1, min(cores // (threads_each or cores), free // bytes_each))


def _check_names(configs: Sequence[Config]) -> None:
    from tf_cutnmix.runs import build

    for config in configs:
        build.check_names(config)


def _train(config: Config, cores: Sequence[int]) -> None:
    """In a process of its own: make a run whose folder exists; `log.txt` there ends with an error
    if it fails.
    """
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    folder = pathlib.Path(config.workdir)
    with open(folder / "log.txt", "ab") as log:
        streams: Any = (sys.stdout, sys.stderr)
        for stream in streams:
            os.dup2(log.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)
    from tf_cutnmix.reporting import run_page
    from tf_cutnmix.runs import experiment

    try:
        experiment.train_and_evaluate(config, show=lambda config, _: run_page.write(folder, config))
    except (Interrupted, RunError) as error:
        sys.exit(str(error))


def _end_with_the_sweep() -> None:
    """A run whose sweep was killed would be in the way of the next sweep."""
    sweep = multiprocessing.parent_process()
    assert sweep
    sweep.join()
    os._exit(1)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes, which may save what they have; one that does not answer is killed."""
    for process in processes:
        process.terminate()
    deadline = time.perf_counter() + _SECONDS_TO_END
    for process in processes:
        process.join(max(0.0, deadline - time.perf_counter()))
        if process.exitcode is None:
            process.kill()
            process.join()


def _why_it_failed(process: BaseProcess, log: pathlib.Path) -> str:
    """The last line that a process has printed, or the signal that has ended it; "" if neither."""
    code = process.exitcode
    if code is None or code >= 0:
        return last_line(log.read_text(errors="replace")) if code else ""
    memory = ", as it does where memory runs out (fewer --jobs need less)"
    hint = memory if code in (-signal.SIGKILL, -signal.SIGABRT) else ""
    return f"the process ended with signal {signal.Signals(-code).name}{hint}, see {log}"
