"""What ends a run: errors whose message is all that a user needs to read."""

import difflib
from collections.abc import Iterable, Sequence


class RunError(Exception):
    """A run cannot go on. The commands print its message as one line and exit with 1."""


class InputError(RunError, ValueError):
    """What was passed cannot be used. The message says what was passed and what is allowed."""


class DivergenceError(RunError, ArithmeticError):
    """A term of the loss is no longer a finite number."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended what was going on; the commands exit with 128 and its number.

    Args:
      number: of the signal.
      advice: how to go on, if there is something to go on from.
    """

    def __init__(self, number: int, advice: str = "") -> None:
        super().__init__(advice or "interrupted")
        self.number, self.advice = number, advice


def unknown(kind: str, name: str, allowed: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not among `allowed`: with the nearest, all if few, or a hint."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    if near:
        return InputError(f"unknown {kind} {name!r}: did you mean {near[0]!r}?")
    known = f"one of {', '.join(allowed)}" if len(allowed) <= 20 else hint
    return InputError(f"unknown {kind} {name!r}{known and ': '}{known}")


def listed(names: Sequence[str], most: int = 10) -> str:
    """Some names, the first `most` of them and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def last_line(output: str) -> str:
    """What a process that failed says in the end, where Python puts the reason."""
    return (output.strip().splitlines() or ["it says nothing"])[-1]


def first_line(error: BaseException) -> str:
    """What somebody else's error says in one line, or its kind if it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
