"""The plots of groups of runs, as SVG to put into a page that is light or dark."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator

from tf_cutnmix.reporting.comparison import recorded
from tf_cutnmix.reporting.groups import Group

DOTS = "A dot is a seed, a bar the mean over seeds; sorted by the teacher's mean."
BANDS = (
    "Lines are means over seeds, bands reach from the lowest to the highest. The total loss has "
    "other terms in other methods: compare its course, not its height."
)

TEACHER, PEER = "#0b5fa5", "#d9822b"
_INK, _RULE = "#1b1b1b", "#e6e6e6"
# Colours that the page has others for where it is dark.
_OF_THE_PAGE = {_INK: "currentColor"} | {
    colour: f"var(--{name}, {colour})"
    for name, colour in (("teacher", TEACHER), ("peer", PEER), ("rule", _RULE))
}
# matplotlib's ten, lighter or darker, so that each is seen on a light and on a dark page.
COLOURS = (
    *("#207dbd", "#e96d00", "#2ca02c", "#db3b3c", "#9467bd"),
    *("#a7685b", "#df64b9", "#7f7f7f", "#95961b", "#139ead"),
)
STYLE: Any = {
    "axes.edgecolor": "#888888",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "none",
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "tf_cutnmix",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_LINES = ("-", "--", ":")
# Of names: letters in a line, and a line's height in inches.
_LETTERS, _LINE = 44, 0.16
_CURVES = {
    "val_teacher_accuracy": "Teacher: validation accuracy (%)",
    "val_mean_peer_accuracy": "Mean peer: validation accuracy (%)",
    "loss": "Total training loss",
}


def accuracies(groups: Sequence[Group]) -> str:
    """A dot for each run and a bar for each mean, groups sorted by their teacher's accuracy."""
    groups = sorted(groups, key=lambda group: np.mean(recorded(group, "best_teacher_accuracy")))
    with matplotlib.rc_context(STYLE):
        names = _in_lines(group.name for group in groups)
        height = max(0.5, _height(names) + _LINE)
        figure = Figure(figsize=(9, 0.9 + height * len(groups)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(groups))
        for name, colour, shift in (("teacher", TEACHER, 0.13), ("mean_peer", PEER, -0.13)):
            for row, group in zip(rows, groups, strict=True):
                values = [100 * value for value in recorded(group, f"best_{name}_accuracy")]
                along = np.full(len(values), row + shift)
                label = name.replace("_", " ") if row == 0 else None
                axes.plot(values, along, "o", color=colour, alpha=0.55, ms=5, mew=0, label=label)
                axes.plot(np.mean(values), row + shift, "|", color=colour, ms=13, mew=2.2)
        axes.set_yticks(rows, names)
        axes.set_ylim(-0.6, len(groups) - 0.4)
        axes.set_xlabel("test accuracy (%)")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return svg(figure)


def curves(groups: Sequence[Group]) -> str:
    """Figures by epoch: the mean over seeds, and a band from the lowest to the highest."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 3.4), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(1, 3), _CURVES.items(), strict=True):
            for number, group in enumerate(groups):
                _curve(axes, group, name, number)
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if not axes.lines:
                axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
        legend_below(figure, axes, columns=3)
    return svg(figure)


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The names of what is drawn in `axes` under all panels; the figure grows by their height."""
    handles, labels = axes.get_legend_handles_labels()
    names = _in_lines(labels)
    height = _height(names) * math.ceil(len(names) / columns)
    figure.set_figheight(figure.get_figheight() + height)
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)


def _in_lines(names: Iterable[str]) -> list[str]:
    """Long ones in several lines."""
    return [textwrap.fill(name, _LETTERS) for name in names]


def _height(names: Sequence[str]) -> float:
    """Of the longest name, in inches."""
    return _LINE * max((name.count("\n") + 1 for name in names), default=0)


def _curve(axes: Axes, group: Group, name: str, number: int) -> None:
    """One line for the epochs that all runs of the group have."""
    found = [run.curves[name] for run in group.runs.values()]
    epochs = sorted(set.intersection(*(set(curve) for curve in found)))
    if not epochs:
        return
    scale = 100 if name.endswith("accuracy") else 1
    values = scale * np.array([[curve[epoch] for epoch in epochs] for curve in found])
    line, colour = look(number)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, values.mean(axis=0), line, marker=marker, color=colour, label=group.name)
    if len(found) > 1:
        axes.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0
        )


def look(number: int) -> tuple[str, str]:
    """Line and colour of so many a group: when the colours are used up, the lines change."""
    return _LINES[number // len(COLOURS) % len(_LINES)], f"C{number % len(COLOURS)}"


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
