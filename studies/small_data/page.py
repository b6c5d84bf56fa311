"""Tables and plot of docs/when_it_pays.md, from results/: `python studies/small_data/page.py`."""

import argparse
import dataclasses
import functools
import itertools
import math
import pathlib
import re
import statistics
from collections.abc import Callable, Collection, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_cutnmix import command
from tf_cutnmix.reporting import comparison, plots, runs
from tf_cutnmix.reporting.comparison import Difference, Group
from tf_cutnmix.reporting.runs import Run
from tf_cutnmix.runs.config import Config

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "when_it_pays.md"
PLOT = PAGE.with_suffix(".svg")
BASELINE = "independent_cutmix"
DEFAULT = "cutnmix"
# They won with 1,000 images, and their equals in cost were made then.
TWO_TARGETS = "cutnmix_both_ramped"
SIDE_BY_SIDE = (DEFAULT, TWO_TARGETS, "dml_cutmix", "dml_cutnmix")
DRAWN = (DEFAULT, "cutnmix_former", *SIDE_BY_SIDE[1:])
RIVALS = ("dml_cutmix", "dml_cutnmix", "independent_cutmix_longer", "one_wider_cutmix")
THREE_PEERS = "_3_peers"
FEW = 3
README = ("train1000_h100", "train2500_h100", "train5000_h100", "letters_h100")
# Where an interval of the default had to begin, in points: regime, beside what, figure, above what.
CONDITIONS = (
    ("train1000_h100", BASELINE, "mean peer", 0),
    ("train1000_h100", BASELINE, "teacher", 0),
    ("train1000_h100", "dml_cutmix", "mean peer", -1),
    ("train1000_h100", "dml_cutmix", "teacher", -1),
    ("train2500_h100", BASELINE, "mean peer", 0),
    ("train2500_h100", "dml_cutmix", "mean peer", -1),
    ("train2500_h100", "dml_cutmix", "teacher", -1),
)
# Their intervals had been seen before there were more seeds.
SEEN_FIRST = range(8)
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
Rows = list[tuple[str, ...]]


class Measure(NamedTuple):
    """A figure of `Run.figures`, and how it is told.

    Attributes:
      key: its name there.
      scale: what it is multiplied by.
      places: decimals.
    """

    key: str
    scale: int
    places: int


ACCURACIES = {
    "mean peer": Measure("last_mean_peer_accuracy", 100, 2),
    "teacher": Measure("last_teacher_accuracy", 100, 2),
}
# Percent, nats and parts of 1.
FIGURES = ACCURACIES | {
    "NLL": Measure("last_negative_log_likelihood", 1, 3),
    "ECE": Measure("last_teacher_calibration_error", 1, 3),
}


class Ranked(NamedTuple):
    """Rows of a regime.

    Attributes:
      regime: a folder of results/.
      baseline: the row that the others are compared with.
      chosen: of a row and its number of seeds, whether it is in the table.
    """

    regime: str
    baseline: str
    chosen: Callable[[str, int], bool]


def _ranked(regime: str, chosen: Callable[[str, int], bool] = lambda row, seeds: True) -> Ranked:
    def shown(row: str, seeds: int) -> bool:
        return not row.endswith(THREE_PEERS) and chosen(row, seeds)

    return Ranked(regime, BASELINE, shown)


# By what a marker on the page names.
RANKED = {
    "train1000_h100, many seeds": _ranked("train1000_h100", lambda row, seeds: seeds > FEW),
    "train1000_h100, few seeds": _ranked("train1000_h100", lambda row, seeds: seeds <= FEW),
    "train1000_long_h100": _ranked("train1000_long_h100"),
    "train1000_h100, three peers": Ranked(
        "train1000_h100",
        f"{BASELINE}{THREE_PEERS}",
        lambda row, seeds: row.endswith(THREE_PEERS),
    ),
    ON_A_CPU: _ranked(ON_A_CPU, lambda row, seeds: seeds >= FEW),
    "digits": _ranked("digits"),
    "train2500_h100": _ranked("train2500_h100"),
    "train5000_h100": _ranked("train5000_h100"),
    "letters_h100": _ranked("letters_h100"),
}


def main() -> None:
    """Write tables and plot of the page, and print the tables."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    PAGE.write_text(filled(PAGE.read_text()))
    PLOT.write_text(plot())
    for name in TABLES:
        print(f"{name}\n\n{table(name)}")


def filled(text: str) -> str:
    """The text of the page with its tables made anew, each below its marker."""
    for name in TABLES:
        pattern = rf"(<!-- table: {re.escape(name)} -->\n\n)(\|.*\n)*"
        text, count = re.subn(pattern, lambda found, name=name: found[1] + table(name), text)
        if count != 1:
            raise ValueError(f"the page has {count} markers of the table {name!r} in place of 1")
    return text


def table(name: str) -> str:
    """The table of that name in Markdown."""
    header, *others = TABLES[name]()
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *others))


def ranked(of: Ranked) -> Rows:
    """Rows ranked by the images held out, where there are such, else by the test split."""
    found = read(of.regime)
    chosen = [row for row, group in found.items() if of.chosen(row, len(group.runs))]
    chosen.sort(key=lambda row: held_out(found[row]) or both(found[row]), reverse=True)
    header = ("row", "seeds", "held out", *FIGURES, *(f"{name}, difference" for name in ACCURACIES))
    return [header, *(_line(row, found[row], found.get(of.baseline)) for row in chosen)]


def beside(rows: Sequence[str], others: Sequence[str]) -> Rows:
    """In each regime the rows less each of the others, where both have at least two seeds."""
    lines: Rows = [("regime", "row", "above", "seeds", "cost", *FIGURES)]
    regimes = dict.fromkeys(of.regime for of in RANKED.values() if of.regime != ON_A_CPU)
    for regime, row, other in itertools.product(regimes, rows, others):
        own, baseline = (read(regime).get(name) for name in (row, other))
        if row == other or own is None or baseline is None:
            continue
        seeds = own.runs.keys() & baseline.runs.keys()
        if len(seeds) >= comparison.FEWEST_FOR_INTERVAL:
            named = (_short(regime), f"`{row}`", f"`{other}`", str(len(seeds)))
            times = rounded(cost(own) / cost(baseline), 2)
            told = (_difference(own, baseline, of) for of in FIGURES.values())
            lines.append((*named, times, *told))
    return lines


def after_holm() -> Rows:
    """Whether the default is above mixing alone, of all figures of the README at one level."""
    keys = list(itertools.product(README, ACCURACIES))
    p_values = [
        comparison.difference(found[DEFAULT], found[BASELINE], ACCURACIES[name].key).p_value
        for found, name in ((read(regime), name) for regime, name in keys)
    ]
    told = zip(keys, p_values, comparison.corrected(p_values), strict=True)
    return [
        ("regime", "figure", "p", "p after Holm"),
        *((_short(regime), name, *(rounded(p, 4) for p in ps)) for (regime, name), *ps in told),
    ]


def conditions() -> Rows:
    """Where the intervals that the default was chosen by begin, and on which seeds that hangs."""
    header = ("regime", "above", "figure", "wanted", "all seeds", "seeds 0 to 7", "missed without")
    lines: Rows = [header]
    for regime, other, name, wanted in CONDITIONS:
        own, baseline = read(regime)[DEFAULT], read(regime)[other]
        begins = functools.partial(_lower_end, own, baseline, ACCURACIES[name])
        told = (rounded(begins(seeds), 2, "+") for seeds in (own.runs, SEEN_FIRST))
        needed = [str(seed) for seed in own.runs if begins(own.runs.keys() - {seed}) <= wanted]
        named = (_short(regime), f"`{other}`", name, f"above {wanted}")
        lines.append((*named, *told, ", ".join(needed)))
    return lines


TABLES: dict[str, Callable[[], Rows]] = {
    "side by side": functools.partial(beside, SIDE_BY_SIDE, (BASELINE,)),
    "after Holm": after_holm,
    "rivals": functools.partial(beside, (DEFAULT, TWO_TARGETS), RIVALS),
    "conditions": conditions,
    **{name: functools.partial(ranked, of) for name, of in RANKED.items()},
}


def _short(regime: str) -> str:
    return regime.removesuffix("_h100")


def _line(row: str, group: Group, baseline: Group | None) -> tuple[str, ...]:
    """Percent, nats, parts of 1; differences with the half width of their interval."""
    about = next((HERE / "rows").rglob(f"{row}.cfg")).read_text().splitlines()[0]
    scored = _scored(group)
    fewer = f" ({len(scored)} seeds)" if len(scored) < len(group.runs) else ""
    return (
        f"`{row}`: {about.removeprefix('# ').removesuffix('.')}",
        str(len(group.runs)),
        rounded(100 * statistics.fmean(scored), 2) + fewer if scored else "",
        *(rounded(of.scale * mean(group, of.key), of.places) for of in FIGURES.values()),
        *(_difference(group, baseline, of) for of in ACCURACIES.values()),
    )


def rounded(value: float, places: int, sign: str = "") -> str:
    """A half is rounded away from 0: the floats of means of counts lie on either side of it."""
    exact = Decimal(f"{value:.9f}").quantize(Decimal(10) ** -places, ROUND_HALF_UP)
    return f"{exact:{sign}f}"


@functools.cache
def read(regime: str) -> dict[str, Group]:
    """The rows of a regime by the names of their files in rows/, each with its seeds."""
    found: dict[str, Group] = {}
    for place in (regime, *FURTHER.get(regime, ())):
        folders = runs.find([str(HERE / "results" / place)])
        for group in comparison.collect(runs.read(folder, flags) for folder in folders)[0]:
            row = row_of(group)
            before = found[row].runs if row in found else {}
            found[row] = dataclasses.replace(group, runs=before | group.runs)
    return found


def flags(path: pathlib.Path) -> Config:
    return command.read(Config, path)


def row_of(group: Group) -> str:
    """The name of its file in rows/."""
    return re.sub(r"^seed=\d+,flagfile=|_seed\d+$", "", next(iter(group.runs.values())).folder.name)


def mean(group: Group, key: str) -> float:
    """Over seeds."""
    return statistics.fmean(comparison.recorded(group, key))


def cost(group: Group) -> float:
    """Multiplications and additions of a whole run's networks."""
    images = int(str(group.settings["batch_size"])) * mean(group, "last_step")
    return images * mean(group, "flops_per_image")


def both(group: Group) -> float:
    """Accuracy on the test split, mean of the mean peer's and the teacher's."""
    return statistics.fmean(mean(group, of.key) for of in ACCURACIES.values())


def held_out(group: Group) -> float | None:
    """Accuracy on the images held out, likewise; None without such images."""
    scored = _scored(group)
    return statistics.fmean(scored) if scored else None


def _scored(group: Group) -> list[float]:
    """That of each run that has such images."""
    return [_held_out(run) for run in group.runs.values() if "validation" in run.result["last"]]


def _held_out(run: Run) -> float:
    said = run.result["last"]["validation"]
    peers = [said[f"{peer}_accuracy"] for peer in run.result["parameters"]]
    return (statistics.fmean(peers) + said["teacher_accuracy"]) / 2


def _difference(group: Group, baseline: Group | None, of: Measure) -> str:
    """Above the baseline, paired by seed, and the half width of the 95 % interval."""
    if baseline is None or group is baseline:
        return ""
    found = comparison.difference(group, baseline, of.key)
    if found is None:
        return ""
    half = _half_width(found)
    told = "" if math.isnan(half) else f" ({rounded(of.scale * half, of.places)})"
    return rounded(of.scale * found.mean, of.places, "+") + told


def _half_width(found: Difference) -> float:
    """Of the interval; NaN where there is none."""
    return (found.high - found.low) / 2


def _lower_end(group: Group, baseline: Group, of: Measure, seeds: Collection[int]) -> float:
    """Of the interval of the difference over those seeds."""
    chosen = {seed: run for seed, run in group.runs.items() if seed in seeds}
    found = comparison.difference(dataclasses.replace(group, runs=chosen), baseline, of.key)
    return of.scale * found.low


def plot() -> str:
    """Differences to mixing alone, along images and along epochs, as SVG."""
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 6.2), layout="constrained")
        panels = figure.subplots(len(AXES), len(ACCURACIES), sharey=True)
        for row, (title, places) in zip(panels, AXES.items(), strict=True):
            for axes, name in zip(row, ACCURACIES, strict=True):
                for number, setting in enumerate(DRAWN):
                    _draw(axes, places, setting, ACCURACIES[name].key, number)
                axes.axhline(0, color="#888888", linewidth=0.8)
                axes.set_xticks(list(places.values()), [f"{x:,}" for x in places.values()])
                axes.set_xlabel(title)
                axes.set_title(f"{name}: points above {BASELINE}", fontsize=9, loc="left")
        plots.legend_below(figure, panels[0][0], columns=len(DRAWN))
    # On a page of its own the ink is black.
    return plots.svg(figure).replace("<svg", '<svg style="background: white"', 1)


def _draw(axes: Axes, places: dict[str, int], row: str, figure: str, number: int) -> None:
    """A row's means and intervals at those places where it has runs."""
    points = []
    for regime, place in places.items():
        found = read(regime)
        if row in found and (gap := comparison.difference(found[row], found[BASELINE], figure)):
            # Beside each other, so that bars can be told apart.
            middle = (len(DRAWN) - 1) / 2
            shift = (number - middle) * 0.012 * (max(places.values()) - min(places.values()))
            points.append((place + shift, 100 * gap.mean, 100 * _half_width(gap)))
    if points:
        along, means, bars = zip(*points, strict=True)
        line, colour = plots.line_style(number)
        axes.errorbar(along, means, bars, fmt=f"{colour}o{line}", capsize=2, label=row)


if __name__ == "__main__":
    main()
