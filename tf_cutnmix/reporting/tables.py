"""The tables of a report, for Markdown and for HTML."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from tf_cutnmix import escaping
from tf_cutnmix.reporting.across import LONGEST_VALUE, NETWORKS, Across
from tf_cutnmix.reporting.comparison import (
    FEWEST_FOR_INTERVAL,
    Baseline,
    Group,
    corrected,
    difference,
    differing,
    recorded,
)
from tf_cutnmix.runs import scores

NOT_RECORDED = "not recorded"
NO_SUCH_THING = "—"
_TOO_FEW, _NO_SPREAD = "too few seeds", "no spread"

_MOMENTS = {
    "best": "epoch with the best teacher on the validation split",
    "last": "last epoch",
}
_NETWORKS = {
    "teacher": "Teacher",
    "ensemble": "Ensemble",
    "mean_peer": "Mean peer",
    "best_peer": "Best peer",
    "leader": "Leader",
}
_SOME_HAVE = ("leader",)
_LEVEL = 0.05

Cell = Callable[[Group], str]


class Table(NamedTuple):
    """A table of text: the first column holds names, the others figures."""

    title: str
    cells: pd.DataFrame
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table without its title, columns aligned with blanks, notes below it."""
        cells = self.cells.map(escaping.markdown).rename(columns=escaping.markdown)
        sides = ["left", *["right"] * (len(cells.columns) - 1)]
        text = cells.to_markdown(index=False, disable_numparse=True, colalign=sides)
        return "\n\n".join([text, *self.notes]) + "\n"

    def html(self) -> str:
        """The `<table>` element."""
        cells = self.cells.map(escaping.one_line).rename(columns=escaping.one_line)
        return cells.to_html(index=False, border=0, justify="unset")


def accuracy(groups: Sequence[Group], moment: str) -> Table:
    """Test accuracies in percent, mean ± standard deviation over seeds.

    Args:
      groups: all.
      moment: "best" or "last".
    """
    notes = ["Percent, mean ± standard deviation (n - 1) over seeds."]
    if any(len(group.runs) == 1 for group in groups):
        notes.append("A single seed has no deviation.")
    if moment == "best" and any(not group.settings["validation_fraction"] for group in groups):
        notes.append("Without a validation split the last epoch stands in for the best one.")
    columns: dict[str, Cell] = {"Seeds": lambda group: str(len(group.runs))}
    for name, title in _NETWORKS.items():
        figure = f"{moment}_{name}_accuracy"
        if name not in _SOME_HAVE or any(len(recorded(group, figure)) for group in groups):
            columns[title] = _figure(figure, _with_deviation)
    tested = [run.counts.get("test") for group in groups for run in group.runs.values()]
    if any(scores.unbalanced(counts) for counts in tested if counts):
        figure = f"{moment}_teacher_balanced_accuracy"
        columns["Teacher, balanced"] = _figure(figure, _with_deviation)
        notes.append(
            "Balanced: the mean recall of the classes that have test images, some of them few."
        )
    notes.append("The best peer is chosen on the validation split.")
    return _of_cells(f"Test accuracy: {_MOMENTS[moment]}", groups, columns, " ".join(notes))


def differences(groups: Sequence[Group], baselines: dict[str, Baseline]) -> Table | None:
    """Test accuracy less the baseline's at the best epoch; None where no group has a baseline."""
    others = [group for group in groups if baselines[group.name].group is not group]
    if all(baselines[group.name].group is None for group in others):
        return None
    found = {
        (group.name, network): one
        for group in others
        for network in NETWORKS
        if (base := baselines[group.name].group)
        and (one := difference(group, base, f"best_{network}_accuracy"))
    }
    holm = dict(zip(found, corrected([one.p_value for one in found.values()]), strict=True))
    header, rows = ["Baseline", "Common seeds"], []
    for title in NETWORKS.values():
        header += [title, "95 % interval"]
    for group in others:
        row = [baselines[group.name].words, NO_SUCH_THING, *[NO_SUCH_THING] * 2 * len(NETWORKS)]
        for place, network in enumerate(NETWORKS, start=1):
            if one := found.get((group.name, network)):
                star = " *" if holm[group.name, network] < _LEVEL else ""
                ends = _interval(100 * one.low, 100 * one.high, len(one.seeds), "+")
                row[1] = ", ".join(map(str, one.seeds))
                row[2 * place : 2 * place + 2] = f"{100 * one.mean:+.2f}{star}", ends
        rows.append(row)
    notes = [
        "Percentage points of test accuracy, mean over the seeds that both groups have; 95 % "
        "interval of the mean of the differences by Student's t, each as it stands alone."
    ]
    said = {cell for row in rows for cell in row}
    if _TOO_FEW in said:
        notes.append(f"No interval for fewer than {FEWEST_FOR_INTERVAL} common seeds.")
    if _NO_SPREAD in said:
        notes.append(
            "No spread: the difference is the same for every seed, which gives neither an interval "
            "nor a test."
        )
    if tested := [p for p in holm.values() if not np.isnan(p)]:
        notes.append(
            f"* p below {_LEVEL} in Student's t test, corrected by Holm for the {len(tested)} "
            f"differences of this table: {sum(p < _LEVEL for p in tested)}."
        )
    title = "Difference to the baseline: best epoch, paired by seed"
    return _table(title, others, header, rows, *notes)


def calibration(groups: Sequence[Group]) -> Table:
    """Calibration errors, how far the peers differ, how far the regions they mix overlap."""
    return _of_cells(
        "Calibration and diversity: test split, best epoch",
        groups,
        {
            "Teacher ECE": _mean("best_teacher_calibration_error", "{:.2%}"),
            "Ensemble ECE": _mean("best_ensemble_calibration_error", "{:.2%}"),
            "Mean peer ECE": _mean("best_mean_peer_calibration_error", "{:.2%}"),
            "Teacher NLL": _mean("best_negative_log_likelihood", "{:.3f}"),
            "Disagreement": _mean("best_disagreement", "{:.2%}"),
            "Distance": _mean("best_distance", "{:.3f}"),
            "Region overlap": _mean("region_overlap", "{:.2%}"),
        },
        "Means over seeds. ECE: expected calibration error. NLL: negative log likelihood in nats. "
        "Disagreement: part of the images that two peers label differently. Distance: L2, of two "
        "peers' probabilities. Region overlap: of two peers' boxes, mean over epochs.",
    )


def cost(groups: Sequence[Group], baselines: dict[str, Baseline]) -> Table:
    """What training costs, also as a multiple of the baseline's time and memory."""
    columns = {
        "Images/s": _mean("images_per_second", "{:,.0f}"),
        "Trained parameters": _mean("trained_parameters", "{:,.0f}"),
        "MFLOPs/image": _mean("flops_per_image", "{:,.1f}", 1e6),
        "Peak memory": _mean("peak_memory_bytes", "{:,.0f} MiB", 2.0**20),
        "Wall time": _mean("wall_seconds", "{:,.0f} s"),
    }
    if any(baseline.group for baseline in baselines.values()):
        columns["Time / baseline"] = _ratio("wall_seconds", baselines)
        columns["Memory / baseline"] = _ratio("peak_memory_bytes", baselines)
    return _of_cells(
        "Cost of training",
        groups,
        columns,
        "Means over seeds. FLOPs: of one training step, per image. Time is that of the whole run "
        "with its evaluations and exports; other work on the machine is in it.",
    )


def settings(groups: Sequence[Group]) -> Table | None:
    """The settings and circumstances in which the groups differ; None where in none."""
    every = [group.settings | group.circumstances for group in groups]
    told = differing(every)
    rows = [[str(own.get(name, NOT_RECORDED)) for name in told] for own in every]
    title = "Settings in which the groups differ"
    return _table(title, groups, told, rows) if told else None


def across(found: Across) -> Table:
    """A row for each value on each line."""
    header, rows = ["Group", found.setting, "Seeds"], []
    for title in NETWORKS.values():
        header += [title, "95 % interval"]
    for point in found.points.to_dict("records"):
        images = f" ({point['place']:,.0f} images)" if found.of_images else ""
        value = escaping.one_line(point["value"], LONGEST_VALUE) + images
        row = [point["line"], value, str(point["seeds"])]
        for name in NETWORKS:
            ends = point[f"{name}_low"], point[f"{name}_high"]
            row += [f"{point[name]:.2f}", _interval(*ends, point["seeds"])]
        rows.append(row)
    return Table(found.title, pd.DataFrame(rows, columns=header), (f"Percent. {found.caption}",))


def _table(
    title: str, groups: Sequence[Group], header: list[str], rows: list[list[str]], *notes: str
) -> Table:
    """A row for each group; groups that are not compared with each other have a set's number."""
    cells = pd.DataFrame(rows, columns=header)
    if len({group.comparable_set for group in groups}) > 1:
        cells.insert(0, "Set", [str(group.comparable_set) for group in groups])
        notes = (*notes, "Not comparable: rows of different sets.")
    cells.insert(0, "Group", [group.name for group in groups])
    return Table(title, cells, notes)


def _of_cells(title: str, groups: Sequence[Group], columns: dict[str, Cell], *notes: str) -> Table:
    rows = [[cell(group) for cell in columns.values()] for group in groups]
    return _table(title, groups, [*columns], rows, *notes)


def _figure(figure: str, written: Callable[[pd.Series], str]) -> Cell:
    """A figure over the seeds of a group; no such thing, where every run says so."""

    def cell(group: Group) -> str:
        values, count = recorded(group, figure), len(group.runs)
        if values.empty:
            none = all(figure in run.figures for run in group.runs.values())
            return NO_SUCH_THING if none else NOT_RECORDED
        some = f" ({len(values)} of {count} seeds)" if len(values) < count else ""
        return written(values) + some

    return cell


def _with_deviation(values: pd.Series) -> str:
    deviation = f" ± {100 * values.std():.2f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.2f}{deviation}"


def _mean(figure: str, form: str, unit: float = 1.0) -> Cell:
    return _figure(figure, lambda own: form.format(own.mean() / unit).replace("%", " %"))


def _ratio(figure: str, baselines: dict[str, Baseline]) -> Cell:
    def cell(group: Group) -> str:
        baseline = baselines[group.name]
        if baseline.group is None:
            return baseline.words
        own, other = recorded(group, figure), recorded(baseline.group, figure)
        return NOT_RECORDED if own.empty or other.empty else f"{own.mean() / other.mean():.2f}"

    return cell


def _interval(low: float, high: float, seeds: int, sign: str = "") -> str:
    if np.isnan(low):
        return _TOO_FEW if seeds < FEWEST_FOR_INTERVAL else _NO_SPREAD
    return f"[{low:{sign}.2f}, {high:{sign}.2f}]"
