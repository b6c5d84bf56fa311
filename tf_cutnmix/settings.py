"""Settings as the fields of a dataclass: each with its default, its help text and its check."""

import dataclasses
import enum
import numbers
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from tf_cutnmix.errors import InputError, unknown


class Rule(NamedTuple):
    """A condition on a value, and the words that state it."""

    holds: Callable[[Any], bool]
    words: str


class Role(enum.Enum):
    """What a setting changes."""

    LEARNT = "what is learnt"
    BITS = "the last bits of it alone"
    MADE = "how a run is made, and what it leaves behind"
    KEPT = "how a run is kept"
    PLACE = "where files lie"
    EARLIER_RUN = "what is done about a run that is there"


def names_of(settings: type, *roles: Role) -> tuple[str, ...]:
    """The settings of a dataclass that have one of these roles."""
    return tuple(f.name for f in dataclasses.fields(settings) if f.metadata["role"] in roles)


# The largest number that float32 holds.
_LARGEST = 2.0**128 - 2.0**104

POSITIVE = Rule(lambda value: 0 < value <= _LARGEST, "a number above 0, at most 3.4e38")
NOT_NEGATIVE = Rule(lambda value: 0 <= value <= _LARGEST, "a number of 0 or more, at most 3.4e38")
SEED = Rule(lambda value: 0 <= value < 2**32, "a whole number from 0 to 2^32 - 1")
AT_LEAST_1 = Rule(lambda value: 1 <= value < 2**31, "a whole number of 1 or more, below 2^31")
COUNT = Rule(lambda value: 1 <= value <= 10**6, "a whole number from 1 to 1,000,000")
PEERS = Rule(lambda value: 1 <= value <= 100, "a whole number from 1 to 100")
PIXELS = Rule(
    lambda value: (
        bool(re.fullmatch("0|[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})?", str(value)))
        and max(map(int, str(value).split("x"))) <= 2**15
    ),
    "a whole number of pixels a side from 0 to 32,768, or width x height, such as 96x64",
)
FOLD = Rule(
    lambda text: (
        not text
        or (
            bool(re.fullmatch("[1-9][0-9]{0,2}/[1-9][0-9]{0,2}", text))
            and max(int(text.split("/")[0]), 2) <= int(text.split("/")[1])
        )
    ),
    "one of 2 folds or more, such as 1/5",
)
BELOW_1 = Rule(lambda value: 0 <= value < 1, "at least 0 and below 1")
FRACTION = Rule(lambda value: 0 <= value <= 1, "from 0 to 1")
EPOCHS = Rule(
    lambda text: all(
        part.isascii() and part.isdigit() and len(part) <= 7 for part in split_names(text)
    ),
    "numbers of epochs, such as 100,200",
)


def setting(
    default: Any,
    group: str,
    text: str,
    *,
    rule: Rule | None = None,
    choices: tuple[str, ...] = (),
    positional: bool = False,
    role: Role = Role.LEARNT,
) -> Any:
    """A dataclass field that carries its group, its help text, its check and its role.

    A field of type `tuple[str, ...]` is a flag that may be given several times; with
    `positional` it holds the arguments that are no flags.
    """
    metadata = {
        "group": group,
        "help": text,
        "rule": rule,
        "choices": choices,
        "positional": positional,
        "role": role,
    }
    return dataclasses.field(default=default, metadata=metadata)


def check(settings: Any) -> None:
    """Raise `InputError` for the first setting of a dataclass that breaks its own check."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None and field.default is None:  # left to what is found later
            continue
        if not _is_of(field.type, value):
            raise InputError(f"--{field.name}={value!r}: must be of type {_name(field.type)}")
        choices, rule = field.metadata["choices"], field.metadata["rule"]
        if choices and value not in choices:
            raise unknown(f"--{field.name}", value, choices)
        if rule and not rule.holds(value):
            raise InputError(f"--{field.name}={value}: must be {rule.words}")


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a value is of a field's type; a whole number is a number, a truth value is none."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    # NumPy's numbers are numbers too.
    wider = {int: numbers.Integral, float: numbers.Real}
    return isinstance(value, tuple(wider.get(k, typing.get_origin(k) or k) for k in kinds))


def from_text(settings: type, name: str, text: str) -> Any:
    """The value of a setting, a number or a text, that a file has; None for what is none."""
    kind = next(field.type for field in dataclasses.fields(settings) if field.name == name)
    kinds: Any = typing.get_args(kind) or (kind,)
    try:
        return kinds[0](text)
    except ValueError:
        return None


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


def split_names(names: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, without blanks."""
    return tuple(part.strip() for part in names.split(",") if part.strip())
