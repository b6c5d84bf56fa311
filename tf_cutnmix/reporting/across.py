"""Accuracy across one setting: groups that differ in it alone are on one line."""

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.escaping import one_line
from tf_cutnmix.reporting.comparison import interval, recorded
from tf_cutnmix.reporting.groups import (
    NO_MEANING,
    STEPS,
    Group,
    Values,
    differing,
    names,
    settings_of,
)
from tf_cutnmix.reporting.plots import STYLE, legend_below, look, svg
from tf_cutnmix.reporting.tables import Table
from tf_cutnmix.runs.config import Config

_FEWEST = 3
_SPLITS = ("train_split", "validation_split", "test_split")
_NETWORKS = {"teacher": "Teacher", "mean_peer": "Mean peer"}
_A_DECADE = 10
_MOST_TICKS = 10
_LONGEST = 24


class Across(NamedTuple):
    """Groups along one setting.

    Attributes:
      setting: its name.
      places: where each of its values is on the axis, in this order.
      numeric: whether these are numbers that the values are, or stand for; else the values' ranks.
      lines: groups that differ in nothing else, by the name of what they share, in order.
      short: names of what has too few values for a line.
    """

    setting: str
    places: dict[Hashable, float]
    numeric: bool
    lines: dict[str, list[Group]]
    short: list[str]


def across(groups: Sequence[Group], setting: str) -> Across:
    """Groups along a setting; what follows from it, the number of steps, may differ with it.

    Where a setting has no meaning, as `regions` where nothing mixes by boxes, its default counts.

    Raises:
      InputError: there is no such setting, fewer than three values of it, or no three in groups
        that are equal otherwise.
    """
    allowed = settings_of(Config())
    if setting not in allowed:
        raise unknown("setting in --across", setting, allowed)
    values = {group.settings[setting] for group in groups}
    if len(values) < _FEWEST:
        told = ", ".join(sorted(map(str, values)))
        raise InputError(
            f"--across={setting}: the runs have {len(values)} of the {_FEWEST} values or more that "
            f"a plot needs: {told}"
        )
    lines = _lines(groups, setting)
    for name, members in lines.items():
        if len({group.settings[setting] for group in members}) < len(members):
            raise InputError(
                f"--across={setting}: runs of {name} are equal but for the steps that they trained:"
                " leave out all but one of them"
            )
    long = {name: members for name, members in lines.items() if len(members) >= _FEWEST}
    if not long:
        rests = [{**_settings(group, setting), **_circumstances(group)} for group in groups]
        raise InputError(
            f"--across={setting}: no {_FEWEST} values of it are in runs that are equal otherwise: "
            f"they differ in {', '.join(differing(rests))} too"
        )
    places, numeric = _places([group for members in long.values() for group in members], setting)
    order = list(places)
    for members in long.values():
        members.sort(key=lambda group: order.index(group.settings[setting]))
    return Across(setting, places, numeric, long, [name for name in lines if name not in long])


def caption(found: Across) -> str:
    """What the plot shows, and what is compared in it."""
    text = (
        "Mean over seeds; a bar is the 95 % interval of the mean by Student's t, which a single "
        f"seed has not. The runs of a line differ in {found.setting} and what follows from it alone"
    )
    sets = {group.comparable_set for members in found.lines.values() for group in members}
    if len(sets) > 1:
        text += ": here, and nowhere else in this report, they are compared although they do"
    return f"{text}."


def warnings(found: Across) -> list[str]:
    """A line for each that has too few values."""
    return [
        f"not drawn across {found.setting}: {name}, which has fewer than {_FEWEST} values of it"
        for name in found.short
    ]


def table(found: Across) -> Table:
    """A row for each value on each line."""
    header = ["Group", found.setting, "Seeds"]
    for title in _NETWORKS.values():
        header += [title, "95 % interval"]
    rows = []
    for name, members in found.lines.items():
        for group in members:
            row = [name, _words(group, found), str(len(group.runs))]
            for network in _NETWORKS:
                mean, ends = _measured(group, network)
                row.append(f"{mean:.2f}")
                row.append("too few seeds" if ends is None else "[{:.2f}, {:.2f}]".format(*ends))
            rows.append(tuple(row))
    return Table(heading(found), tuple(header), rows, (f"Percent. {caption(found)}",))


def heading(found: Across) -> str:
    """Of the table and of the plot."""
    return f"Test accuracy at the best epoch across {found.setting}"


def plot(found: Across) -> str:
    """The means of each line with their intervals, the teacher's beside the mean peer's."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        panels = figure.subplots(1, len(_NETWORKS), sharey=True)
        for axes, (network, title) in zip(panels, _NETWORKS.items(), strict=True):
            for number, (name, members) in enumerate(found.lines.items()):
                line, colour = look(number)
                _line(axes, found, members, network, label=name, form=f"{colour}o{line}")
            axes.set_title(f"{title}: test accuracy (%)", fontsize=9, loc="left")
            _label_axis(axes, found)
        legend_below(figure, axes, columns=2)
    return svg(figure)


def _lines(groups: Sequence[Group], setting: str) -> dict[str, list[Group]]:
    """Groups that differ in the setting alone, by what they share."""
    together: dict[Hashable, list[Group]] = {}
    for group in groups:
        shared = (_settings(group, setting), _circumstances(group))
        together.setdefault(tuple(tuple(own.items()) for own in shared), []).append(group)
    first = [members[0] for members in together.values()]
    told = names([_settings(g, setting) for g in first], [_circumstances(g) for g in first])
    return dict(zip(told, together.values(), strict=True))


def _settings(group: Group, setting: str) -> Values:
    """The settings of a group but for one."""
    usual = settings_of(Config())
    return {
        name: usual[name] if value == NO_MEANING else value
        for name, value in group.settings.items()
        if name != setting
    }


def _circumstances(group: Group) -> Values:
    """Those of a group but for the steps, which follow from settings."""
    return {name: value for name, value in group.circumstances.items() if name != STEPS}


def _places(groups: Sequence[Group], setting: str) -> tuple[dict[Hashable, float], bool]:
    """Where each value is on the axis, in order, and whether that is its number."""
    numbers = {group.settings[setting]: _number(group, setting) for group in groups}
    known = {value: number for value, number in numbers.items() if number is not None}
    if len(known) == len(numbers):
        return dict(sorted(known.items(), key=lambda pair: pair[1])), True
    ordered = sorted(numbers, key=lambda value: _parts(str(value)))
    return {value: float(rank) for rank, value in enumerate(ordered)}, False


def _number(group: Group, setting: str) -> float | None:
    """The number that a value is; that of its images where it is a split, None if it has none."""
    value = group.settings[setting]
    if setting in _SPLITS:
        return _images(group, setting, str(value))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _images(group: Group, setting: str, value: str) -> float | None:
    """How many images a split has, as its runs counted them, or as `train[:1000]` says itself."""
    run = next(iter(group.runs.values()))
    if counts := run.counts.get(setting.removesuffix("_split")):
        return float(sum(counts))
    said = re.fullmatch(r"\w+\[(\d*):(\d+)\]", value)
    return float(said[2]) - float(said[1] or 0) if said else None


def _parts(text: str) -> list[tuple[int, str]]:
    """By which names are in order: resnet8 comes before resnet14."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _words(group: Group, found: Across) -> str:
    value = group.settings[found.setting]
    told = one_line(str(value), _LONGEST)
    if found.setting in _SPLITS and found.numeric:
        return f"{told} ({found.places[value]:,.0f} images)"
    return told


def _measured(group: Group, network: str) -> tuple[float, tuple[float, float] | None]:
    """Mean accuracy in percent, and the ends of its interval."""
    values = [100 * value for value in recorded(group, f"best_{network}_accuracy")]
    return float(np.mean(values)), interval(values)


def _line(
    axes: Axes, found: Across, members: Sequence[Group], network: str, *, label: str, form: str
) -> None:
    measured = [_measured(group, network) for group in members]
    means = np.array([mean for mean, _ in measured])
    ends = np.array([ends or (np.nan, np.nan) for _, ends in measured])
    axes.errorbar(
        [found.places[group.settings[found.setting]] for group in members],
        means,
        yerr=np.abs(ends.T - means),
        fmt=form,
        label=label,
        ms=4,
        lw=1.3,
        elinewidth=1,
        capsize=3,
    )


def _label_axis(axes: Axes, found: Across) -> None:
    images = found.numeric and found.setting in _SPLITS
    axes.set_xlabel(f"images ({found.setting})" if images else found.setting)
    places = list(found.places.values())
    if not found.numeric:
        labels = [one_line(str(value), _LONGEST) for value in found.places]
        axes.set_xticks(places, labels, rotation=20, ha="right")
        return
    if places[0] > 0 and places[-1] >= _A_DECADE * places[0]:
        axes.set_xscale("log")
    if len(places) <= _MOST_TICKS:
        axes.set_xticks(places, [f"{place:,.10g}" for place in places], minor=False)
        axes.minorticks_off()
