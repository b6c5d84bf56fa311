"""What this process prints, and what libraries print on their own."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

_PATIENCE = 5.0


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
def waiting(words: str, descriptor: int = 1) -> Iterator[None]:
    """Say in a line what is waited for, if that takes more than a few seconds.

    Args:
      words: of the line.
      descriptor: of the stream that it is written to; by default stdout.
    """
    sys.stdout.flush()
    stream = os.dup(descriptor)  # as it is now: another may take its number

    def say() -> None:
        with contextlib.suppress(OSError):
            os.write(stream, f"{words}\n".encode())

    timer = threading.Timer(_PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        os.close(stream)


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
