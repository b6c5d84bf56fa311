"""What this process prints, and what libraries print on their own."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO


def open_what_is_closed() -> None:
    """Have all three streams, as all programs expect: what a shell has closed leads nowhere."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def drop(stream: IO[str]) -> None:
    """Have all that is still printed to a stream, as at Python's end, lead nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


@contextlib.contextmanager
def waiting(words: str) -> Iterator[None]:
    """Say on a terminal what is waited for, until it is there."""
    shown = sys.stderr.isatty()
    if shown:
        print(f"{words} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def held_back() -> Iterator[IO[str]]:
    """Keep what this process writes to stderr, in any language, in the file that is given."""
    with tempfile.TemporaryFile("w+") as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
