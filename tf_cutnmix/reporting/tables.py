"""The tables of a report, for Markdown and for HTML."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from tf_cutnmix import escaping
from tf_cutnmix.reporting.comparison import (
    FEWEST_FOR_INTERVAL,
    NETWORKS,
    Across,
    Baseline,
    Group,
    corrected,
    difference,
    differing,
    recorded,
)
from tf_cutnmix.runs import scores

NOTHING = "—"
_TOO_FEW, _NO_SPREAD = "too few seeds", "no spread"
_INTERVAL = "95 % interval"
_LEVEL = 0.05
_NETWORKS = ("teacher", "ensemble", "mean_peer", "best_peer", "leader")
_LONGEST_VALUE = 24

Row = dict[str, str]


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
    title, note = "Test accuracy: last epoch", ""
    if moment == "best":
        title = "Test accuracy: epoch with the best teacher on the validation split"
        if any(not group.settings["validation_fraction"] for group in groups):
            note = " Without a validation split the last epoch stands in for the best one."
    columns = {name: f"{moment}_{name}_accuracy" for name in _NETWORKS}
    if all(recorded(group, columns["leader"]).empty for group in groups):
        del columns["leader"]
    tested = [run.counts.get("test") for group in groups for run in group.runs.values()]
    if any(scores.unbalanced(counts) for counts in tested if counts):
        columns["teacher, balanced"] = f"{moment}_teacher_balanced_accuracy"
        note += " Balanced: the mean recall of the classes that have test images, some of them few."
    rows = []
    for group in groups:
        row = {"Seeds": str(len(group.runs))}
        for name, figure in columns.items():
            deviation = recorded(group, figure).std()
            part = "" if np.isnan(deviation) else f" ± {100 * deviation:.2f}"
            row[name.capitalize().replace("_", " ")] = _mean(group, figure, f"{{:.2f}}{part}", 0.01)
        rows.append(row)
    note = (
        "Percent, mean ± standard deviation (n - 1) over seeds, of which a single one has no "
        f"deviation.{note} The best peer is chosen on the validation split."
    )
    return _table(title, groups, rows, note)


def differences(groups: Sequence[Group], baselines: dict[str, Baseline]) -> Table | None:
    """Test accuracy less the baseline's at the best epoch; None where there is no difference."""
    found = {
        (group.name, network): one
        for group in groups
        for network in NETWORKS
        if (base := baselines[group.name].group)
        and base is not group
        and (one := difference(group, base, f"best_{network}_accuracy"))
    }
    if not found:
        return None
    holm = dict(zip(found, corrected([one.p_value for one in found.values()]), strict=True))
    others = [group for group in groups if baselines[group.name].group is not group]
    rows = []
    for group in others:
        row = {"Baseline": baselines[group.name].words, "Common seeds": NOTHING}
        for network, title in NETWORKS.items():
            row |= {title: NOTHING, f"{title}, {_INTERVAL}": NOTHING}
            if one := found.get((group.name, network)):
                star = " *" if holm[group.name, network] < _LEVEL else ""
                ends = _interval(100 * one.low, 100 * one.high, len(one.seeds), "+")
                row["Common seeds"] = str(len(one.seeds))
                row |= {title: f"{100 * one.mean:+.2f}{star}", f"{title}, {_INTERVAL}": ends}
        rows.append(row)
    tested = [p for p in holm.values() if not np.isnan(p)]
    return _table(
        "Difference to the baseline: best epoch, paired by seed",
        others,
        rows,
        "Percentage points of test accuracy, mean over the seeds that both groups have; 95 % "
        "interval of the mean of the differences by Student's t, each as it stands alone. There is "
        f"none for fewer than {FEWEST_FOR_INTERVAL} common seeds, and no spread where the "
        "difference is the same for every seed, which gives neither an interval nor a test.",
        f"* p below {_LEVEL} in Student's t test, corrected by Holm for the {len(tested)} "
        f"differences of this table: {sum(p < _LEVEL for p in tested)}.",
    )


def calibration(groups: Sequence[Group]) -> Table:
    """Calibration errors, how far the peers differ, how far the regions they mix overlap."""
    columns = {
        "Teacher ECE": ("best_teacher_calibration_error", "{:.2%}"),
        "Ensemble ECE": ("best_ensemble_calibration_error", "{:.2%}"),
        "Mean peer ECE": ("best_mean_peer_calibration_error", "{:.2%}"),
        "Teacher NLL": ("best_negative_log_likelihood", "{:.3f}"),
        "Teacher ECE, calibrated": ("best_teacher_scaled_calibration_error", "{:.2%}"),
        "Teacher NLL, calibrated": ("best_teacher_scaled_negative_log_likelihood", "{:.3f}"),
        "Disagreement": ("best_disagreement", "{:.2%}"),
        "Distance": ("best_distance", "{:.3f}"),
        "Region overlap": ("region_overlap", "{:.2%}"),
    }
    return _table(
        "Calibration and diversity: test split, best epoch",
        groups,
        [{name: _mean(group, *of) for name, of in columns.items()} for group in groups],
        "Means over seeds. ECE: expected calibration error. NLL: negative log likelihood in nats. "
        "Calibrated: at the temperature that fits the validation split. "
        "Disagreement: part of the images that two peers label differently. Distance: L2, of two "
        "peers' probabilities. Region overlap: of two peers' boxes, mean over epochs.",
    )


def cost(groups: Sequence[Group], baselines: dict[str, Baseline]) -> Table:
    """What training costs, also as a multiple of the baseline's time and memory."""
    columns = {
        "Images/s": ("images_per_second", "{:,.0f}", 1),
        "Trained parameters": ("trained_parameters", "{:,.0f}", 1),
        "MFLOPs/image": ("flops_per_image", "{:,.1f}", 1e6),
        "Peak memory": ("peak_memory_bytes", "{:,.0f} MiB", 2.0**20),
        "Wall time": ("wall_seconds", "{:,.0f} s", 1),
    }
    multiples = {}
    if any(baseline.group for baseline in baselines.values()):
        multiples = {"Time / baseline": "wall_seconds", "Memory / baseline": "peak_memory_bytes"}
    rows = []
    for group in groups:
        row = {name: _mean(group, *of) for name, of in columns.items()}
        baseline, words = baselines[group.name]
        for name, figure in multiples.items():
            row[name] = words
            if baseline:
                row[name] = _mean(group, figure, "{:.2f}", recorded(baseline, figure).mean())
        rows.append(row)
    return _table(
        "Cost of training",
        groups,
        rows,
        "Means over seeds. FLOPs: of one training step, per image. Time is that of the whole run "
        "with its evaluations and exports; other work on the machine is in it.",
    )


def settings(groups: Sequence[Group]) -> Table | None:
    """The settings in which the groups differ; None where in none."""
    differ = differing(group.settings for group in groups)
    rows = [{name: str(g.settings.get(name, NOTHING)) for name in differ} for g in groups]
    return _table("Settings in which the groups differ", groups, rows) if differ else None


def across(found: Across) -> Table:
    """A row for each value on each line."""
    rows = []
    images = found.numeric and found.setting.endswith("_split")
    for point in found.points.to_dict("records"):
        value = escaping.one_line(point["value"], _LONGEST_VALUE)
        value += f" ({point['place']:,.0f} images)" if images else ""
        row = {"Group": point["line"], found.setting: value, "Seeds": str(point["seeds"])}
        for name, title in NETWORKS.items():
            ends = _interval(point[f"{name}_low"], point[f"{name}_high"], point["seeds"])
            row |= {title: f"{point[name]:.2f}", f"{title}, {_INTERVAL}": ends}
        rows.append(row)
    return Table(found.title, pd.DataFrame(rows), (f"Percent. {found.caption}",))


def _table(title: str, groups: Sequence[Group], rows: list[Row], *notes: str) -> Table:
    """A row for each group; groups that are not compared with each other have a set's number."""
    cells = pd.DataFrame(rows)
    if len({group.comparable_set for group in groups}) > 1:
        cells.insert(0, "Set", [str(group.comparable_set) for group in groups])
    cells.insert(0, "Group", [group.name for group in groups])
    return Table(title, cells, notes)


def _mean(group: Group, figure: str, form: str, unit: float = 1) -> str:
    """The mean of a figure over the seeds of a group that have it, in a unit."""
    values, count = recorded(group, figure), len(group.runs)
    if values.empty or np.isnan(unit):
        return NOTHING
    some = f" ({len(values)} of {count} seeds)" if len(values) < count else ""
    return form.format(values.mean() / unit).replace("%", " %") + some


def _interval(low: float, high: float, seeds: int, sign: str = "") -> str:
    if np.isnan(low):
        return _TOO_FEW if seeds < FEWEST_FOR_INTERVAL else _NO_SPREAD
    return f"[{low:{sign}.2f}, {high:{sign}.2f}]"
