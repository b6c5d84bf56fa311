"""The plots of groups and of one run, as SVG to put into a page that is light or dark."""

import functools
import io
import math
import pathlib
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tf_cutnmix.escaping import one_line
from tf_cutnmix.reporting.comparison import NETWORKS, Across, Group, recorded
from tf_cutnmix.runs import scores

DOTS = "A dot is a seed, a bar the mean over seeds; sorted by the teacher's mean."
BANDS = (
    "Lines are means over seeds, bands reach from the lowest to the highest. The total loss has "
    "other terms in other methods: compare its course, not its height."
)
# The confusion matrix of more classes has no numbers.
FEW_CLASSES = 14

_TEACHER, _PEER = "#0b5fa5", "#d9822b"
_FAINT = "#888888"
# Colours that the page has others for where it is dark.
_OF_THE_PAGE = {
    "#1b1b1b": "currentColor",
    "#e6e6e6": "var(--rule, #e6e6e6)",
    _TEACHER: f"var(--teacher, {_TEACHER})",
    _PEER: f"var(--peer, {_PEER})",
}
STYLE = matplotlib.rc_params_from_file(
    pathlib.Path(__file__).parent / "templates" / "plots.mplstyle", use_default_template=False
)
COLOURS = STYLE["axes.prop_cycle"].by_key()["color"]
_LINES = ("-", "--", ":")
# Of names: letters in a line, and a line's height in inches.
_LETTERS, _LINE = 44, 0.16
_CURVES = {
    "val_teacher_accuracy": "Teacher: validation accuracy (%)",
    "val_mean_peer_accuracy": "Mean peer: validation accuracy (%)",
    "loss": "Total training loss",
}
# Where accuracies reach this, their axis widens towards 100.
_HIGH = 90
_PERCENTS = (0, 50, 80, 90, 95, 98, 99, 100)
# In a bin of confidence, on average.
_FEWEST_IMAGES, _MOST_BINS = 20, 10
_NAMED_CLASSES, _MOST_TICKS, _LONGEST = 40, 10, 20
# It is seen where the page is light and where it is dark.
_SHADE, _CLEAR = "#2f8fdc", (0.0, 0.8)


def as_svg(draw: Callable[..., Figure]) -> Callable[..., str]:
    """A function that draws a figure as one that gives it as an `<svg>` element."""

    @functools.wraps(draw)
    def drawn(*args: Any) -> str:
        with matplotlib.rc_context(STYLE):
            return svg(draw(*args))

    return drawn


def svg(figure: Figure) -> str:
    """The `<svg>` element in the page's colours, without what names its maker or the time."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Its own fonts only measure the text; the reader's, which have more letters, show it.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    for colour, of_the_page in _OF_THE_PAGE.items():
        text = text.replace(colour, of_the_page)
    return text[text.index("<svg") :]


def line_style(number: int) -> tuple[str, str]:
    """Line and colour of one of many groups: when the colours are used up, the lines change."""
    return _LINES[number // len(COLOURS) % len(_LINES)], f"C{number % len(COLOURS)}"


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The names of what is drawn in `axes` under all panels; the figure grows by their height."""
    handles, labels = axes.get_legend_handles_labels()
    names, height = _in_lines(labels)
    figure.set_figheight(figure.get_figheight() + height * math.ceil(len(names) / columns))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


# Of groups


@as_svg
def accuracies(groups: Sequence[Group]) -> Figure:
    """A dot for each run and a bar for each mean, groups sorted by their teacher's accuracy."""
    groups = sorted(groups, key=lambda group: recorded(group, "best_teacher_accuracy").mean())
    names, height = _in_lines([group.name for group in groups])
    figure = Figure(figsize=(9, 0.9 + max(0.5, height + _LINE) * len(groups)))
    axes = figure.subplots()
    for name, colour, shift in (("teacher", _TEACHER, 0.13), ("mean_peer", _PEER, -0.13)):
        for row, group in enumerate(groups):
            values = 100 * recorded(group, f"best_{name}_accuracy")
            along = np.full(len(values), row + shift)
            label = name.replace("_", " ") if row == 0 else None
            axes.plot(values, along, "o", color=colour, alpha=0.55, ms=5, mew=0, label=label)
            axes.plot(values.mean(), row + shift, "|", color=colour, ms=13, mew=2.2)
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(-0.6, len(groups) - 0.4)
    axes.set_xlabel("test accuracy (%)")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


@as_svg
def curves(groups: Sequence[Group]) -> Figure:
    """Figures by epoch: the mean over seeds, and a band from the lowest to the highest."""
    figure = Figure(figsize=(12, 3.4))
    for axes, (name, title) in zip(figure.subplots(1, 3), _CURVES.items(), strict=True):
        for number, group in enumerate(groups):
            # The epochs that all runs of the group have.
            values = pd.concat([run.curves[name] for run in group.runs.values()], axis=1).dropna()
            if values.empty:
                continue
            values *= 100 if name.endswith("accuracy") else 1
            line, colour = line_style(number)
            marker = "o" if len(values) == 1 else None
            mean = values.mean(axis=1)
            axes.plot(mean.index, mean, line, marker=marker, color=colour, label=group.name)
            if len(group.runs) > 1:
                ends = values.min(axis=1), values.max(axis=1)
                axes.fill_between(values.index, *ends, color=colour, alpha=0.15, lw=0)
        _by_epoch(axes, title)
        if not axes.lines:
            axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
    legend_below(figure, axes, columns=3)
    return figure


@as_svg
def across(found: Across) -> Figure:
    """The means of each line with their intervals, the teacher's beside the mean peer's."""
    figure = Figure(figsize=(9, 3.6))
    panels = figure.subplots(1, len(NETWORKS), sharey=True)
    for axes, (network, title) in zip(panels, NETWORKS.items(), strict=True):
        for number, (name, points) in enumerate(found.points.groupby("line", sort=False)):
            line, colour = line_style(number)
            means = points[network]
            ends = means - points[f"{network}_low"], points[f"{network}_high"] - means
            style = {"fmt": f"{colour}o{line}", "ms": 4, "lw": 1.3, "elinewidth": 1, "capsize": 3}
            axes.errorbar(points["place"], means, yerr=ends, label=name, **style)
        axes.set_title(f"{title}: test accuracy (%)")
        images = found.numeric and found.setting.endswith("_split")
        axes.set_xlabel(f"images ({found.setting})" if images else found.setting)
        places = found.points.drop_duplicates("place").set_index("place")["value"].sort_index()
        along = places.index
        if not found.numeric:
            labels = [one_line(value, _LONGEST) for value in places]
            axes.set_xticks(along, labels, rotation=20, ha="right")
            continue
        if along.min() > 0 and along.max() >= 10 * along.min():
            axes.set_xscale("log")
        if len(along) <= _MOST_TICKS:
            axes.set_xticks(along, [f"{place:,.10g}" for place in along], minor=False)
            axes.minorticks_off()
    legend_below(figure, axes, columns=2)
    return figure


# Of one run


@as_svg
def curve(
    title: str, lines: Mapping[str, pd.Series], best_epoch: int, percent: bool = False
) -> Figure:
    """One or more figures by epoch, with a mark at the best epoch; the first line stands out.

    With `percent`, where 98 and 100 are as far apart as 90 and 98, if there are such figures.
    """
    figure = Figure(figsize=(4.4, 2.7))
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        colour = (_TEACHER, _PEER)[number] if number < 2 else f"C{1 + number % 9}"
        marker, width = "o" if len(points) == 1 else None, 1.1 if number else 1.8
        axes.plot(points.index, points, color=colour, lw=width, label=name, marker=marker, ms=4)
    first = next(iter(lines.values()))
    if best_epoch in first:
        axes.axvline(best_epoch, color=_FAINT, lw=0.9, ls="--")
        axes.plot(best_epoch, first[best_epoch], "o", color=_TEACHER, ms=6)
    _by_epoch(axes, title)
    if percent and max(points.max() for points in lines.values()) >= _HIGH:
        axes.set_yscale("function", functions=(_widened, lambda y: 101 - np.exp(-y)))
        axes.set_yticks(_PERCENTS, map(str, _PERCENTS))
        axes.set_ylim(max(0, min(points.min() for points in lines.values()) - 1), 100.2)
    if len(lines) > 1:
        axes.legend(fontsize=8, labelcolor="linecolor")
    return figure


@as_svg
def confusion(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The confusion matrix: images of each class, a row, predicted as each, a column.

    Shades are square roots of the shares of a row, so that a few mistakes are seen too. Few classes
    have the counts and the shares in percent.

    Args:
      counts: `[K, K]`.
      class_names: `K` names; left out where they are too many to be read.
    """
    classes = len(counts)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(2.2 + 0.48 * classes, 10.0)
    figure = Figure(figsize=(side + 0.7, side))
    axes = figure.subplots()
    axes.grid(visible=False)
    shades = LinearSegmentedColormap.from_list("shares", [(*to_rgb(_SHADE), a) for a in _CLEAR])
    drawn = axes.imshow(parts, cmap=shades, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    scale = figure.colorbar(drawn, shrink=0.7, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    scale.ax.set_yticklabels(["0", "1", "5", "20", "50", "100"])
    scale.set_label("share of the true class (%)")
    scale.outline.set_visible(False)
    if classes <= _NAMED_CLASSES:
        names = [one_line(name, _LONGEST) for name in class_names]
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= FEW_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            place: dict[str, Any] = {"ha": "center", "fontsize": 8}
            axes.text(column, row, str(counts[row, column]), va="bottom", **place)
            axes.text(column, row, f"{parts[row, column]:.0%}", va="top", **place)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure


@as_svg
def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Figure:
    """Accuracy by confidence with its 95 % interval, and how many predictions have each.

    There are ten bins, or fewer: 20 images for each on average.
    """
    bins = int(np.clip(len(labels) // _FEWEST_IMAGES, 1, _MOST_BINS))
    counts, confident, right = np.array(scores.calibration(probabilities, labels, bins))[:, 1:]
    some = counts > 0
    figure = Figure(figsize=(4.4, 4.0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 100], [0, 100], color=_FAINT, lw=0.9, ls="--", label="perfectly calibrated")
    sure, true = 100 * confident[some] / counts[some], 100 * right[some] / counts[some]
    ends = zip(right[some] / counts[some], counts[some].astype(int), strict=True)
    low, high = 100 * np.transpose([scores.interval(*one) for one in ends])
    # Rounding may put an end beyond what it ends.
    beside = np.maximum([true - low, high - true], 0)
    style = {"color": _TEACHER, "ms": 4, "elinewidth": 1, "capsize": 3}
    above.errorbar(sure, true, beside, fmt="o-", label="teacher, 95 % interval", **style)
    above.set_ylabel("accuracy (%)")
    above.set_ylim(-3, 103)
    above.legend(fontsize=8)
    below.bar((np.arange(bins) + 0.5) * 100 / bins, counts, width=90 / bins, color=_TEACHER)
    below.set(xlabel="confidence (%)", ylabel="images", xlim=(0, 100))
    return figure


def _widened(percent: np.ndarray) -> np.ndarray:
    return -np.log(101 - np.minimum(percent, 100.5))


def _by_epoch(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _in_lines(names: Sequence[str]) -> tuple[list[str], float]:
    """Names, long ones in several lines, and the height of the longest in inches."""
    filled = [textwrap.fill(name, _LETTERS) for name in names]
    return filled, _LINE * max((name.count("\n") + 1 for name in filled), default=0)
