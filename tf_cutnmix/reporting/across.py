"""Accuracy across one setting: groups that differ in it alone are on one line."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.reporting.comparison import (
    NO_MEANING,
    STEPS,
    Group,
    Values,
    differing,
    names,
    recorded,
    settings_of,
    student,
)
from tf_cutnmix.runs.config import Config

NETWORKS = {"teacher": "Teacher", "mean_peer": "Mean peer"}
_SPLITS = ("train_split", "validation_split", "test_split")
FEWEST = 3
LONGEST_VALUE = 24


class Across(NamedTuple):
    """Groups along one setting.

    Attributes:
      setting: its name.
      numeric: whether its values are numbers, or stand for numbers of images.
      points: a row for each group, in order: its `line`, the `value` as text, the `place` on the
        axis (the number, or a rank), `seeds`, and of each network in percent the mean, `_low` and
        `_high`, the ends of its interval, NaN where there is none.
      short: names of what has too few values for a line.
      caption: what is compared.
    """

    setting: str
    numeric: bool
    points: pd.DataFrame
    short: list[str]
    caption: str

    @property
    def title(self) -> str:
        """Of the table and of the plot."""
        return f"Test accuracy at the best epoch across {self.setting}"

    @property
    def of_images(self) -> bool:
        """Whether its values stand for numbers of images."""
        return self.numeric and self.setting in _SPLITS


def across(groups: Sequence[Group], setting: str) -> Across:
    """Groups along a setting; what follows from it, the number of steps, may differ with it.

    Where a setting has no meaning, as `regions` where nothing mixes by boxes, its default counts.

    Raises:
      InputError: there is no such setting, fewer than three values of it, or no three in groups
        that are equal otherwise.
    """
    usual = settings_of(Config())
    if setting not in usual:
        raise unknown("setting in --across", setting, usual)
    table = pd.DataFrame({"group": groups}, dtype=object)
    table["value"] = [str(group.settings[setting]) for group in groups]
    if table["value"].nunique() < FEWEST:
        raise InputError(
            f"--across={setting}: the runs have {table['value'].nunique()} of the {FEWEST} values "
            f"or more that a plot needs: {', '.join(sorted(table['value'].unique()))}"
        )
    settings = [_without(setting, group.settings, usual) for group in groups]
    circumstances = [_without(STEPS, group.circumstances, {}) for group in groups]
    table["line"] = names(settings, circumstances)
    if (twice := table.duplicated(["line", "value"])).any():
        raise InputError(
            f"--across={setting}: runs of {table['line'][twice].iloc[0]} are equal but for the "
            "steps that they trained: leave out all but one of them"
        )
    long = table.groupby("line")["value"].transform("size") >= FEWEST
    if not long.any():
        rests = [own | where for own, where in zip(settings, circumstances, strict=True)]
        raise InputError(
            f"--across={setting}: no {FEWEST} values of it are in runs that are equal otherwise: "
            f"they differ in {', '.join(differing(rests))} too"
        )
    short, table = table["line"][~long].unique().tolist(), table[long]
    numbers = table["group"].map(lambda group: _number(group, setting)).astype(float)
    numeric = bool(numbers.notna().all())
    ranks = pd.factorize(table["value"].map(_parts), sort=True)[0]
    table["place"] = numbers if numeric else ranks
    table["order"] = pd.factorize(table["line"])[0]
    table = table.sort_values(["order", "place"], ignore_index=True)
    measured = pd.DataFrame([_measured(group) for group in table["group"]])
    sets = {group.comparable_set for group in table["group"]}
    here = ": here, and nowhere else in this report, they are compared although they do"
    caption = (
        "Mean over seeds; a bar is the 95 % interval of the mean by Student's t, which a single "
        f"seed has not. The runs of a line differ in {setting} and what follows from it alone"
        f"{here if len(sets) > 1 else ''}."
    )
    return Across(setting, numeric, table.join(measured), short, caption)


def _without(name: str, values: Values, usual: Values) -> Values:
    """All but one of some values; what has no meaning has its default."""
    kept = {other: value for other, value in values.items() if other != name}
    return {n: usual.get(n, v) if v == NO_MEANING else v for n, v in kept.items()}


def _number(group: Group, setting: str) -> float | None:
    """The number that a value is; that of its images where it is a split, None if it has none."""
    value: Any = group.settings[setting]
    if setting not in _SPLITS:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number else None
    run = next(iter(group.runs.values()))
    if counts := run.counts.get(setting.removesuffix("_split")):
        return float(sum(counts))
    said = re.fullmatch(r"\w+\[(\d*):(\d+)\]", str(value))
    return float(said[2]) - float(said[1] or 0) if said else None


def _measured(group: Group) -> dict[str, float]:
    found: dict[str, float] = {"seeds": len(group.runs)}
    for network in NETWORKS:
        values = 100 * recorded(group, f"best_{network}_accuracy")
        low, high, _ = student(values, size=values.max())
        found |= {network: values.mean(), f"{network}_low": low, f"{network}_high": high}
    return found


def _parts(text: str) -> str:
    """By which names are in order: resnet8 comes before resnet14."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), text)
