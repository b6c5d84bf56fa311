"""The diagrams of one run, as SVG to put into a page that is light or dark."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tf_cutnmix.escaping import one_line
from tf_cutnmix.reporting.plots import PEER, STYLE, TEACHER, svg
from tf_cutnmix.reporting.runs import Curve
from tf_cutnmix.runs import scores

FEW_CLASSES = 14
_NAMED_CLASSES = 40
_LONGEST = 18
# It is seen where the page is light and where it is dark.
_SHADE, _DARKEST = "#2f8fdc", 0.8


def curve(title: str, lines: dict[str, Curve], best_epoch: int | None) -> str:
    """One or more figures by epoch, with a mark at the best epoch; the first line stands out."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.subplots()
        for number, (name, points) in enumerate(lines.items()):
            colour = TEACHER if number == 0 else PEER if number == 1 else f"C{1 + number % 9}"
            marker = "o" if len(points) == 1 else None
            width = 1.8 if number == 0 else 1.1
            epochs, values = list(points), list(points.values())
            axes.plot(epochs, values, color=colour, lw=width, label=name, marker=marker, ms=4)
        first = next(iter(lines.values()))
        if best_epoch in first:
            axes.axvline(best_epoch, color="#888888", lw=0.9, ls="--")
            axes.plot(best_epoch, first[best_epoch], "o", color=TEACHER, ms=6)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor="linecolor")
    return svg(figure)


def confusion(counts: np.ndarray, class_names: tuple[str, ...]) -> str:
    """How many images of each class, a row, are taken for each, a column.

    Shades are roots of the parts of a row, so that a few mistakes are seen too.

    Args:
      counts: `[K, K]`.
      class_names: `K` names; left out where they are too many to be read.
    """
    classes = len(counts)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.zeros((classes, classes, 4))
    shades[..., :3], shades[..., 3] = to_rgb(_SHADE), np.sqrt(parts) * _DARKEST
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        side = min(2.2 + 0.42 * classes, 10.0)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shades, interpolation="nearest")
        if classes <= _NAMED_CLASSES:
            names = [one_line(name, _LONGEST) for name in class_names]
            axes.set_xticks(range(classes), names, rotation=90)
            axes.set_yticks(range(classes), names)
        if classes <= FEW_CLASSES:
            for row, column in zip(*np.nonzero(counts), strict=True):
                axes.text(column, row, str(counts[row, column]), ha="center", va="center")
        axes.set_xlabel("is taken for")
        axes.set_ylabel("is")
    return svg(figure)


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> str:
    """How often answers of each confidence are right, and how many of them there are."""
    bins = 10
    counts, confident, right = (
        part[1:] for part in scores.calibration(probabilities, labels, bins)
    )
    some = counts > 0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.0), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.plot([0, 100], [0, 100], color="#888888", lw=0.9, ls="--", label="as it should be")
        said, true = 100 * confident[some] / counts[some], 100 * right[some] / counts[some]
        above.plot(said, true, "o-", color=TEACHER, ms=4, label="teacher")
        above.set_ylabel("are right (%)")
        above.legend(frameon=False, fontsize=8)
        _histogram(below, counts)
    return svg(figure)


def _histogram(axes: Axes, counts: np.ndarray) -> None:
    bins = len(counts)
    axes.bar((np.arange(bins) + 0.5) * 100 / bins, counts, width=90 / bins, color=TEACHER)
    axes.set_ylabel("images")
    axes.set_xlabel("the teacher is so sure (%)")
    axes.set_xlim(0, 100)
