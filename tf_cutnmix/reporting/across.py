"""Accuracy across one setting: groups that differ in it alone are on one line."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.reporting.comparison import (
    DEFAULTS,
    NO_MEANING,
    STEPS,
    Group,
    differing,
    names,
    recorded,
    student,
)

NETWORKS = {"teacher": "Teacher", "mean_peer": "Mean peer"}
FEWEST = 3


class Across(NamedTuple):
    """Groups along one setting.

    Attributes:
      setting: its name.
      title: of the table and of the plot.
      numeric: whether its values are numbers, or splits, which stand for their numbers of images.
      points: a row for each group, in order: its `line`, the `value` as text, the `place` on the
        axis (the number, or a rank), `seeds`, and of each network in percent the mean, `_low` and
        `_high`, the ends of its interval, NaN where there is none.
      short: names of what has too few values for a line.
      caption: what is compared.
    """

    setting: str
    title: str
    numeric: bool
    points: pd.DataFrame
    short: list[str]
    caption: str


def across(groups: Sequence[Group], setting: str) -> Across:
    """Groups along a setting; what follows from it, the number of steps, may differ with it.

    Where a setting has no meaning, as `regions` where nothing mixes by boxes, its default counts.

    Raises:
      InputError: there is no such setting, fewer than three values of it, or no three in groups
        that are equal otherwise.
    """
    if setting not in DEFAULTS:
        raise unknown("setting in --across", setting, DEFAULTS)
    values = sorted({str(group.settings[setting]) for group in groups})
    if len(values) < FEWEST:
        raise InputError(
            f"--across={setting}: the runs have {len(values)} of the {FEWEST} values or more that "
            f"a plot needs: {', '.join(values)}"
        )
    others = [
        {
            name: DEFAULTS[name] if value == NO_MEANING else value
            for name, value in group.settings.items()
            if name not in (setting, STEPS)
        }
        for group in groups
    ]
    points = pd.DataFrame([_point(group, setting) for group in groups])
    points["line"] = names(others)
    points["order"] = pd.factorize(points["line"])[0]
    long = points.groupby("line")["value"].transform("nunique") >= FEWEST
    if not long.any():
        raise InputError(
            f"--across={setting}: no {FEWEST} values of it are in runs that are equal otherwise: "
            f"they differ in {', '.join(differing(others))} too"
        )
    short, points = points["line"][~long].unique().tolist(), points[long]
    numeric = bool(points["place"].notna().all())
    if not numeric:
        points = points.assign(place=pd.factorize(points["value"].map(_in_order), sort=True)[0])
    caption = (
        "Mean over seeds; a bar is the 95 % interval of the mean by Student's t, which a single "
        f"seed has not. The runs of a line differ in {setting} and what follows from it alone"
    )
    if len({group.comparable_set for group in groups}) > 1:
        caption += ": here, and nowhere else in this report, they are compared although they do"
    return Across(
        setting,
        f"Test accuracy at the best epoch across {setting}",
        numeric,
        points.sort_values(["order", "place"], ignore_index=True),
        short,
        f"{caption}.",
    )


def _point(group: Group, setting: str) -> dict[str, object]:
    value = group.settings[setting]
    point: dict[str, object] = {"value": str(value), "place": math.nan, "seeds": len(group.runs)}
    counts = next(iter(group.runs.values())).counts.get(setting.removesuffix("_split"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        point["place"] = float(value)
    elif counts and setting.endswith("_split"):
        point["place"] = float(sum(counts))
    for network in NETWORKS:
        values = 100 * recorded(group, f"best_{network}_accuracy")
        low, high, _ = student(values, size=values.max())
        point |= {network: values.mean(), f"{network}_low": low, f"{network}_high": high}
    return point


def _in_order(text: str) -> str:
    """By which names are in order: resnet8 comes before resnet14."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), text)
