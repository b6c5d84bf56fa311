"""Runs side by side, each in a process and on cores of its own."""

import multiprocessing
import os
import pathlib
import signal
import time
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from tf_cutnmix import files
from tf_cutnmix.errors import RunError
from tf_cutnmix.runs.config import Config

_SECONDS_TO_END = 20.0


class Ended(NamedTuple):
    """A run that has ended.

    Attributes:
      name: that it was started under.
      reason: why it failed, in one line, or "".
      seconds: that it took.
    """

    name: str
    reason: str
    seconds: float


class _Running(NamedTuple):
    name: str
    config: Config
    process: BaseProcess
    begin: float
    share: int


class Runs:
    """Makes runs, each in a process of its own; leaving its context ends those that are on.

    A run whose number of threads is set is kept to its share of the cores. TensorFlow is imported
    once, by the server from which the processes are forked.

    Args:
      at_once: how many are made at a time.
      run_minutes: that a run may take, after which it is ended and has failed; 0: any time.

    Attributes:
      at_once: how many are made at a time.
    """

    def __init__(self, at_once: int, run_minutes: float = 0) -> None:
        self.at_once = at_once
        self.run_minutes = run_minutes
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tf_cutnmix.sweeps.cell"])
        self._running: list[_Running] = []

    def __enter__(self) -> "Runs":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _end([run.process for run in self._running])

    def __len__(self) -> int:
        """How many are on."""
        return len(self._running)

    @property
    def elapsed(self) -> list[float]:
        """The seconds that each of those that are on has taken so far."""
        return [time.perf_counter() - run.begin for run in self._running]

    def check_names(self, configs: list[Config]) -> str:
        """What is wrong with the first name in the settings that nothing knows, or ""."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_in_cell, args=("check_names", configs, sender))
        _start(process)
        try:
            process.join()
        finally:
            process.terminate()
        if process.exitcode:
            raise RunError("the names in the grid could not be checked")
        return receiver.recv()

    def start(self, name: str, config: Config) -> None:
        """Begin a run whose folder exists."""
        (pathlib.Path(config.workdir) / "error.txt").unlink(missing_ok=True)
        taken = {run.share for run in self._running}
        share = min(set(range(len(taken) + 1)) - taken)
        cores = _cores(share, self.at_once) if config.threads else None
        process = self._context.Process(target=_in_cell, args=("run", config, cores))
        _start(process)
        self._running.append(_Running(name, config, process, time.perf_counter(), share))

    def wait(self) -> Ended:
        """Wait until one ends, by itself or because it takes too long."""
        # They began in this order.
        limit = 60 * self.run_minutes
        left = max(0.0, self._running[0].begin + limit - time.perf_counter()) if limit else None
        ended = connection.wait([run.process.sentinel for run in self._running], left)
        run, *_ = [run for run in self._running if run.process.sentinel in ended] or self._running
        if not ended:
            _end([run.process])
        run.process.join()
        if not ended and run.process.exitcode:
            reason = f"it took more than --run_minutes={self.run_minutes:g} and was ended\n"
            files.write(pathlib.Path(run.config.workdir) / "error.txt", reason.encode())
        self._running.remove(run)
        return Ended(run.name, _why_it_failed(run), time.perf_counter() - run.begin)


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def that_fit(bytes_each: int, threads_each: int) -> int:
    """How many runs the cores and the free memory have room for, at least 1.

    Args:
      bytes_each: that a run holds.
      threads_each: that a run has; 0 for one on each core.
    """
    cores = len(available_cores())
    free = psutil.virtual_memory().available
    return max(1, min(cores // (threads_each or cores), free // bytes_each))


def _cores(share: int, shares: int) -> list[int]:
    """The cores of one of so many shares."""
    cores = available_cores()
    return cores[share % len(cores) :: shares]


def _in_cell(function: str, *arguments: Any) -> None:
    """Call a function of `cell`, whose import takes TensorFlow's seconds."""
    from tf_cutnmix.sweeps import cell

    getattr(cell, function)(*arguments)


def _start(process: BaseProcess) -> None:
    # Ctrl-C reaches every process of a terminal, and these leave it to the sweep.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)


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


def _why_it_failed(run: _Running) -> str:
    """The last line of what a run's process left in `error.txt`, which is written if it did not."""
    code = run.process.exitcode
    if not code:
        return ""
    folder = pathlib.Path(run.config.workdir)
    error = folder / "error.txt"
    if not error.exists():
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        memory = ", as it does where memory runs out (fewer --jobs need less)"
        hint = memory if code in (-signal.SIGKILL, -signal.SIGABRT) else ""
        reason = f"the process ended with {end}{hint}, see {folder / 'log.txt'}\n"
        files.write(error, reason.encode())
    return error.read_text().splitlines()[-1]
