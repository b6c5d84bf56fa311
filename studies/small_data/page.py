"""Tables and plot of docs/when_it_pays.md, from results/: `python studies/small_data/page.py`."""

import argparse
import dataclasses
import functools
import pathlib
import re
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_cutnmix import command
from tf_cutnmix.reporting import comparison, groups, plots, runs
from tf_cutnmix.reporting.comparison import Difference
from tf_cutnmix.reporting.groups import Group
from tf_cutnmix.reporting.runs import Run
from tf_cutnmix.runs.config import Config

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "when_it_pays.md"
PLOT = PAGE.with_suffix(".svg")
BASELINE = "independent_cutmix"
DEFAULT = "cutnmix"
# They won with 1,000 images, and their equals in cost were made then.
TWO_TARGETS = "cutnmix_both_ramped"
COMPARED = (DEFAULT, "cutnmix_former", TWO_TARGETS, "dml_cutmix", "dml_cutnmix")
EQUAL_COST = ("independent_cutmix_longer", "one_wider_cutmix")
THREE_PEERS = "_3_peers"
FEW = 3
FIGURES = {
    "mean peer": "last_mean_peer_accuracy",
    "teacher": "last_teacher_accuracy",
}
# By what is along an axis of the plot, the results and where they are on it.
AXES = {
    "training images (as many steps)": {
        "train1000_h100": 1000,
        "train2500_h100": 2500,
        "train5000_h100": 5000,
    },
    "epochs, 1,000 images": {"train1000_h100": 400, "train1000_long_h100": 1200},
}
# Where a regime has further seeds, all rows of a seed on one machine.
FURTHER = {"train2500_h100": ("train2500",)}
# Rows of the smallest regime for which there was no card, beside others of the same machine.
ON_A_CPU = "train1000"
_HEADER = (
    *("row", "seeds", "held out", "mean peer", "teacher", "NLL", "ECE"),
    *("mean peer, difference", "teacher, difference"),
)


class Table(NamedTuple):
    """Rows of a regime.

    Attributes:
      regime: a folder of results/.
      baseline: the row that the others are compared with.
      chosen: of a row and its number of seeds, whether it is in the table.
    """

    regime: str
    baseline: str
    chosen: Callable[[str, int], bool]


def _table(regime: str, chosen: Callable[[str, int], bool] = lambda row, seeds: True) -> Table:
    def shown(row: str, seeds: int) -> bool:
        return row not in EQUAL_COST and not row.endswith(THREE_PEERS) and chosen(row, seeds)

    return Table(regime, BASELINE, shown)


# By what a marker on the page names.
TABLES = {
    "train1000_h100, many seeds": _table("train1000_h100", lambda row, seeds: seeds > FEW),
    "train1000_h100, few seeds": _table("train1000_h100", lambda row, seeds: seeds <= FEW),
    "train1000_h100, equal cost": Table(
        "train1000_h100", TWO_TARGETS, lambda row, seeds: row in (TWO_TARGETS, *EQUAL_COST)
    ),
    "train1000_long_h100": _table("train1000_long_h100"),
    "train1000_h100, three peers": Table(
        "train1000_h100",
        f"{BASELINE}{THREE_PEERS}",
        lambda row, seeds: row.endswith(THREE_PEERS),
    ),
    ON_A_CPU: _table(ON_A_CPU, lambda row, seeds: seeds >= FEW),
    "digits": _table("digits"),
    "train2500_h100": _table("train2500_h100"),
    "train5000_h100": _table("train5000_h100"),
    "letters_h100": _table("letters_h100"),
}
SIDE_BY_SIDE = "side by side"


def main() -> None:
    """Write tables and plot of the page, and print the tables."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    PAGE.write_text(filled(PAGE.read_text()))
    PLOT.write_text(plot())
    for name in (SIDE_BY_SIDE, *TABLES):
        print(f"{name}\n\n{table(name)}")


def filled(text: str) -> str:
    """The text of the page with its tables made anew, each below its marker."""
    for name in (SIDE_BY_SIDE, *TABLES):
        pattern = rf"(<!-- table: {re.escape(name)} -->\n\n)(\|.*\n)*"
        text, count = re.subn(pattern, lambda found, name=name: found[1] + table(name), text)
        if count != 1:
            raise ValueError(f"the page has {count} markers of the table {name!r} in place of 1")
    return text


def table(name: str) -> str:
    """The table of that name in Markdown."""
    return _markdown(*(_side_by_side() if name == SIDE_BY_SIDE else _ranked(TABLES[name])))


def _markdown(*rows: Sequence[str]) -> str:
    header, *others = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *others))


def _ranked(of: Table) -> list[tuple[str, ...]]:
    """Rows ranked by the images held out, where there are such, else by the test split."""
    found = read(of.regime)
    chosen = [row for row, group in found.items() if of.chosen(row, len(group.runs))]
    chosen.sort(key=lambda row: held_out(found[row]) or both(found[row]), reverse=True)
    return [_HEADER, *(_line(row, found[row], found.get(of.baseline)) for row in chosen)]


def _side_by_side() -> list[tuple[str, ...]]:
    """In each regime the settings that are compared, beside mixing alone and beside `dml`."""
    others = {"independent": BASELINE, "dml": "dml_cutmix"}
    header = [f"{figure} above `{name}`" for name in others for figure in FIGURES]
    rows = [("regime", "row", "seeds", *header)]
    for regime in dict.fromkeys(of.regime for of in TABLES.values() if of.regime != ON_A_CPU):
        found = read(regime)
        for row in (row for row in COMPARED if row in found):
            cells = [
                _difference(found[row], found.get(other), figure)
                for other in others.values()
                for figure in FIGURES.values()
            ]
            rows.append((regime.removesuffix("_h100"), f"`{row}`", _seeds(found[row]), *cells))
    return rows


def _line(row: str, group: Group, baseline: Group | None) -> tuple[str, ...]:
    """Percent, nats, parts of 1; differences with the half width of their interval."""
    about = (HERE / "rows" / f"{row}.cfg").read_text().splitlines()[0]
    above = held_out(group)
    return (
        f"`{row}`: {about.removeprefix('# ').removesuffix('.')}",
        _seeds(group),
        "" if above is None else f"{100 * above:.2f}",
        *(f"{100 * mean(group, figure):.2f}" for figure in FIGURES.values()),
        f"{mean(group, 'last_negative_log_likelihood'):.3f}",
        f"{mean(group, 'last_teacher_calibration_error'):.3f}",
        *(_difference(group, baseline, figure) for figure in FIGURES.values()),
    )


@functools.cache
def read(regime: str) -> dict[str, Group]:
    """The rows of a regime by the names of their files in rows/, each with its seeds."""
    found: dict[str, Group] = {}
    for place in (regime, *FURTHER.get(regime, ())):
        folders = runs.find([str(HERE / "results" / place)])
        for group in groups.collect([runs.read(folder, flags) for folder in folders]).groups:
            row = row_of(group)
            before = found[row].runs if row in found else {}
            found[row] = dataclasses.replace(group, runs=before | group.runs)
    return found


def flags(path: pathlib.Path) -> Config:
    return command.parse(Config, [f"--flagfile={path}"])


def row_of(group: Group) -> str:
    """The name of its file in rows/."""
    return re.sub(r"^seed=\d+,flagfile=|_seed\d+$", "", next(iter(group.runs.values())).folder.name)


def _seeds(group: Group) -> str:
    return str(len(group.runs))


def mean(group: Group, figure: str) -> float:
    """Over seeds."""
    return statistics.fmean(comparison.recorded(group, figure))


def both(group: Group) -> float:
    """Accuracy on the test split, mean of the mean peer's and the teacher's."""
    return statistics.fmean(mean(group, figure) for figure in FIGURES.values())


def held_out(group: Group) -> float | None:
    """Accuracy on the images held out, likewise; None without such images."""
    values = [_held_out(run) for run in group.runs.values() if "validation" in run.result["last"]]
    return statistics.fmean(values) if values else None


def _held_out(run: Run) -> float:
    said = run.result["last"]["validation"]
    peers = [said[f"{peer}_accuracy"] for peer in run.result["parameters"]]
    return (statistics.fmean(peers) + said["teacher_accuracy"]) / 2


def _difference(group: Group, baseline: Group | None, figure: str) -> str:
    """Points above the baseline, paired by seed, and the half width of the 95 % interval."""
    if baseline is None or group is baseline:
        return ""
    found = comparison.difference(group, baseline, figure)
    if found is None:
        return ""
    half = _half_width(found)
    return f"{100 * found.mean:+.2f}" + ("" if half is None else f" ({half:.2f})")


def _half_width(found: Difference) -> float | None:
    """Of the interval, in points; None where there is none."""
    return found.interval and 50 * (found.interval[1] - found.interval[0])


def plot() -> str:
    """Differences to mixing alone, along images and along epochs, as SVG."""
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 6.2), layout="constrained")
        panels = figure.subplots(len(AXES), len(FIGURES), sharey=True)
        for row, (title, places) in zip(panels, AXES.items(), strict=True):
            for axes, name in zip(row, FIGURES, strict=True):
                for number, setting in enumerate(COMPARED):
                    _draw(axes, places, setting, FIGURES[name], number)
                axes.axhline(0, color="#888888", linewidth=0.8)
                axes.set_xticks(list(places.values()), [f"{x:,}" for x in places.values()])
                axes.set_xlabel(title)
                axes.set_title(f"{name}: points above {BASELINE}", fontsize=9, loc="left")
        plots.legend_below(figure, panels[0][0], columns=len(COMPARED))
    # On a page of its own the ink is black.
    return plots.svg(figure).replace("<svg", '<svg style="background: white"', 1)


def _draw(axes: Axes, places: dict[str, int], row: str, figure: str, number: int) -> None:
    """A row's means and intervals at those places where it has runs."""
    points = []
    for regime, place in places.items():
        found = read(regime)
        if row in found and (gap := comparison.difference(found[row], found[BASELINE], figure)):
            # Beside each other, so that bars can be told apart.
            middle = (len(COMPARED) - 1) / 2
            shift = (number - middle) * 0.012 * (max(places.values()) - min(places.values()))
            points.append((place + shift, 100 * gap.mean, _half_width(gap) or 0.0))
    if points:
        along, means, bars = zip(*points, strict=True)
        line, colour = plots.look(number)
        axes.errorbar(along, means, bars, fmt=f"{colour}o{line}", capsize=2, label=row)


if __name__ == "__main__":
    main()
