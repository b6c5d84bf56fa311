"""What the processes of a sweep do: they check the names in a grid, or make one run of it.

TensorFlow is imported once, with this file, by the server from which all of them are forked.
"""

import multiprocessing
import os
import pathlib
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from tf_cutnmix import files
from tf_cutnmix.errors import Interrupted, RunError
from tf_cutnmix.reporting import run_page
from tf_cutnmix.runs import build, experiment
from tf_cutnmix.runs.config import Config


def check_names(configs: Sequence[Config], answer: Connection) -> None:
    """Send what is wrong with the first setting that names what nothing knows, or ""."""
    _end_with_the_sweep()
    try:
        for config in configs:
            build.check_names(config)
    except RunError as error:
        answer.send(str(error))
    else:
        answer.send("")


def run(config: Config, cores: Sequence[int] | None) -> None:
    """Make a run whose folder exists, on some cores if not on all; exit with 1 if it fails.

    What it prints is added to `log.txt` in its folder, why it failed is left in `error.txt`.
    """
    _end_with_the_sweep()
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    folder = pathlib.Path(config.workdir)
    _print_into(folder / "log.txt")
    try:
        experiment.train_and_evaluate(config, show=lambda config, _: run_page.write(folder, config))
    except Interrupted as interrupt:
        print(interrupt)
        sys.exit(128 + interrupt.number)
    except RunError as error:
        reason = f"{error}\n"
    except Exception:
        reason = traceback.format_exc()
    else:
        return
    print(reason, end="")
    files.write(folder / "error.txt", reason.encode())
    sys.exit(1)


def _end_with_the_sweep() -> None:
    """A run whose sweep was killed would be in the way of the next sweep."""
    sweep = multiprocessing.parent_process()
    if sweep is None:
        return

    def wait() -> None:
        sweep.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _print_into(log: pathlib.Path) -> None:
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        os.dup2(opened, stream.fileno())
        stream.reconfigure(line_buffering=True)
