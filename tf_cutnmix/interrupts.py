"""Signals that ask a process to end, kept until it is safe."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

from tf_cutnmix.errors import Interrupted

# SIGHUP: the terminal was closed, or the line to it is broken.
_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Where they trace and convert, they take an exception of ours for a fault of their own.
_UNSAFE = ("tensorflow", "keras", "keras_cv", "tf2onnx")
_IMPORTING = "<frozen importlib._bootstrap>"


class Interrupts:
    """In its context the first SIGTERM, SIGINT or SIGHUP is kept, and a second one always ends.

    The second one does what it did before: who asks twice does not want to wait. What is ignored
    stays ignored, and outside of the main thread, where Python has no signals, nothing changes.

    Args:
      raised: the first one is raised as `Interrupted`: at once, or within a call of TensorFlow as
        soon as that returns. Otherwise it does no more than leave its number.

    Attributes:
      number: of the signal that came, or None.
    """

    def __init__(self, *, raised: bool = False) -> None:
        self.number: int | None = None
        self._raised = raised
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _ASKED_TO_END:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def _came(self, number: int, frame: FrameType | None) -> None:
        again, outer = self.number is not None, getattr(self._before[number], "__self__", None)
        self.number = number
        if again:
            self._give_back()
            if self._raised:
                # Python's own handler raises, which is what TensorFlow may swallow.
                signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        if isinstance(outer, Interrupts):
            outer.number = number
        if self._raised:
            _raise(Interrupted(number), frame)

    def _give_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


def _raise(error: BaseException, frame: FrameType | None) -> None:
    """Raise an error here, or where the outermost call of TensorFlow in the stack returns to."""
    if not (caller := _caller_of_unsafe(frame)):
        raise error

    def on_return(*_: object) -> None:
        sys.settrace(None)
        raise error

    # What debuggers do: a frame that is traced, while any is, is told of its next line.
    caller.f_trace = on_return
    sys.settrace(lambda *_: None)


def _caller_of_unsafe(frame: FrameType | None) -> FrameType | None:
    """The frame that has called TensorFlow; None outside of it, and where a module is imported."""
    caller, inside = None, False
    while frame:
        if frame.f_code.co_filename == _IMPORTING:
            return None
        unsafe = frame.f_globals.get("__name__", "").split(".")[0] in _UNSAFE
        if inside and not unsafe:
            caller = frame
        inside = unsafe
        frame = frame.f_back
    return caller
