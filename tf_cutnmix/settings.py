"""Settings as the fields of a dataclass: each with its default, its help text and its check."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from tf_cutnmix.errors import InputError, unknown


class Rule(NamedTuple):
    """A condition on a value, and the words that state it."""

    holds: Callable[[Any], bool]
    words: str


POSITIVE = Rule(lambda value: 0 < value < float("inf"), "a number above 0")
NOT_NEGATIVE = Rule(lambda value: 0 <= value < float("inf"), "a number of 0 or more")
SEED = Rule(lambda value: 0 <= value < 2**32, "a whole number from 0 to 2^32 - 1")
AT_LEAST_1 = Rule(lambda value: value >= 1, "a whole number of 1 or more")
BELOW_1 = Rule(lambda value: 0 <= value < 1, "at least 0 and below 1")
FRACTION = Rule(lambda value: 0 <= value <= 1, "from 0 to 1")


def setting(
    default: Any,
    group: str,
    text: str,
    *,
    rule: Rule | None = None,
    choices: tuple[str, ...] = (),
    positional: bool = False,
) -> Any:
    """A dataclass field that carries its group, its help text and its check.

    A field of type `tuple[str, ...]` is a flag that may be given several times; with
    `positional` it holds the arguments that are no flags.
    """
    metadata = {
        "group": group,
        "help": text,
        "rule": rule,
        "choices": choices,
        "positional": positional,
    }
    return dataclasses.field(default=default, metadata=metadata)


def check(settings: Any) -> None:
    """Raise `InputError` for the first setting of a dataclass that breaks its own check."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        choices, rule = field.metadata["choices"], field.metadata["rule"]
        if choices and value not in choices:
            raise unknown(f"--{field.name}", value, choices)
        if rule and value is not None and not rule.holds(value):
            raise InputError(f"--{field.name}={value}: must be {rule.words}")


def split_names(names: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, without blanks."""
    return tuple(part.strip() for part in names.split(",") if part.strip())
