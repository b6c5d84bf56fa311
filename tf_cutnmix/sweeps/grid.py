"""A grid of runs: every combination of the values that some settings are to take."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tf_cutnmix.errors import InputError

_LONGEST_NAME = 200


def parse(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each setting, from texts like "seed=0,1,2".

    Values that hold commas are separated by "|": "arch=resnet8,resnet14|resnet20".

    Raises:
      InputError: a text has no setting or no value, or a setting or a value comes twice.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        name = name.strip()
        values = tuple(v.strip() for v in listed.split("|" if "|" in listed else ","))
        if not name or not all(values):
            raise InputError(
                f"--grid={text}: must be a setting and its values, such as seed=0,1,2, none empty"
            )
        if name in grid:
            raise InputError(f"--grid gives {name} twice: list all its values in one --grid")
        repeated = [value for value in values if values.count(value) > 1]
        if repeated:
            raise InputError(f"--grid={text}: {repeated[0]} comes twice")
        grid[name] = values
    return grid


def cells(grid: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the values, the last setting's changing first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def folder_name(settings: Mapping[str, Any]) -> str:
    """The name of a cell's folder, such as "method=dml,seed=0".

    The commas in a value become "+", and what else a file system may not take "_".

    Raises:
      InputError: the name would be too long for a file system.
    """
    name = ",".join(f"{key}={_safe(str(value))}" for key, value in settings.items())
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(
            f"--grid: the folder {name[:50]}... would have a name of more than {_LONGEST_NAME} "
            "bytes: vary fewer settings or shorten their values"
        )
    return name


def seconds_left(
    finished: Sequence[float], running: Sequence[float], waiting: int, at_once: int
) -> float | None:
    """How long a sweep will still take, if the seconds of any finished run are known.

    Args:
      finished: seconds of each finished run.
      running: seconds that each of those that are on has taken so far.
      waiting: runs that are not begun.
      at_once: how many are made at a time.
    """
    if not finished:
        return None
    each = sum(finished) / len(finished)
    rest = [max(each - seconds, 0.0) for seconds in running]
    # All that there is to do shared out evenly, or else the longest single run of it.
    longest = each if waiting else max(rest, default=0.0)
    return max(longest, (sum(rest) + waiting * each) / at_once)


def duration(seconds: float) -> str:
    """A time for a person to read: "68 s", "11 min" or "3.2 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _safe(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", value.replace(",", "+"))
