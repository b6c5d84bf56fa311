"""Signals that ask a run to end, kept until its state is safe."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT)


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
