"""Signals that ask a run to end, kept until its state is safe."""

import contextlib
import pathlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from tf_cutnmix.errors import Interrupted
from tf_cutnmix.runs import checkpoints

_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def told(folder: pathlib.Path) -> Iterator[None]:
    """A run that is asked to end, wherever it is, says how to go on if it has saved something.

    Raises:
      Interrupted: SIGTERM or SIGINT came.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        known = interrupt if isinstance(interrupt, Interrupted) else Interrupted(signal.SIGINT)
        if known.told or not checkpoints.paths(folder):
            raise
        raise Interrupted(
            known.number,
            f"interrupted; {folder} has what was saved: the same command with --resume goes on "
            "from there",
        ) from interrupt


class Interrupts:
    """In its context SIGTERM and SIGINT do no more than leave their number here, each once.

    The second one does what it did before: who asks twice does not want to wait. What is ignored
    stays ignored, and outside of the main thread, where Python has no signals, nothing changes.

    Attributes:
      number: of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _ASKED_TO_END:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._give_back()

    def _give_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
