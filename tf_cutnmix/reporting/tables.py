"""The tables of a report, for Markdown and for HTML."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tf_cutnmix import escaping
from tf_cutnmix.reporting.comparison import (
    FEWEST_FOR_INTERVAL,
    Difference,
    corrected,
    difference,
    summary,
)
from tf_cutnmix.reporting.groups import Baseline, Group, differing
from tf_cutnmix.runs import scores

NOT_RECORDED = "not recorded"
NO_SUCH_THING = "—"

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
    "soup": "Soup",
}
_SOME_HAVE = ("leader", "soup")
_TESTED = ("teacher", "mean_peer")
_LEVEL = 0.05


class Table(NamedTuple):
    """A table of text: the first column holds names, the others figures."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table without its title, columns aligned with blanks, notes below it."""
        lines = [[escaping.markdown(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines.insert(1, rule)
        text = "".join(f"| {' | '.join(_aligned(line, widths))} |\n" for line in lines)
        return text + "".join(f"\n{note}\n" for note in self.notes)

    def to_html(self) -> str:
        """The table without its title, notes below it."""
        head = "".join(f"<th>{escaping.html(cell)}</th>" for cell in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escaping.html(cell)}</td>" for cell in row) + "</tr>\n"
            for row in self.rows
        )
        notes = "".join(f'<p class="note">{escaping.html(note)}</p>\n' for note in self.notes)
        return (
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{notes}"
        )


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
    columns = [("Seeds", lambda group: str(len(group.runs)))]
    for name, title in _NETWORKS.items():
        figure = f"{moment}_{name}_accuracy"
        if name not in _SOME_HAVE or any(summary(group, figure) for group in groups):
            columns.append((title, _with_deviation(figure)))
    if any(_unbalanced(group) for group in groups):
        figure = f"{moment}_teacher_balanced_accuracy"
        columns.append(("Teacher, balanced", _with_deviation(figure)))
        notes.append(
            "Balanced: the mean recall of the classes that have test images, some of them few."
        )
    if any(title == "Best peer" for title, _ in columns):
        notes.append("The best peer is chosen on the validation split.")
    return _table(f"Test accuracy: {_MOMENTS[moment]}", groups, columns, " ".join(notes))


def _unbalanced(group: Group) -> bool:
    """Whether the test split of one of its runs has far more images of one class than another."""
    counts = [run.counts.get("test") for run in group.runs.values()]
    return any(scores.unbalanced(own) for own in counts if own)


def differences(groups: Sequence[Group], baselines: dict[str, Baseline]) -> Table | None:
    """Test accuracy less the baseline's at the best epoch; None where no group has a baseline."""
    others = [group for group in groups if baselines[group.name].group is not group]
    if all(baselines[group.name].group is None for group in others):
        return None
    columns = [("Baseline", lambda group: baselines[group.name].words)]

    def compared(group: Group, name: str) -> Difference | None:
        baseline = baselines[group.name].group
        return difference(group, baseline, f"best_{name}_accuracy") if baseline else None

    def seeds(group: Group) -> str:
        found = compared(group, "teacher")
        return ", ".join(map(str, found.seeds)) if found else NO_SUCH_THING

    tested = {
        (group.name, name): found.p_value
        for group in others
        for name in _TESTED
        if (found := compared(group, name)) and found.p_value is not None
    }
    marked = {
        figure
        for figure, p in zip(tested, corrected(list(tested.values())), strict=True)
        if p < _LEVEL
    }

    def points(group: Group, name: str) -> str:
        return _points(compared(group, name), (group.name, name) in marked)

    def interval(group: Group, name: str) -> str:
        return _interval(compared(group, name))

    columns.append(("Common seeds", seeds))
    for name in _TESTED:
        columns.append((_NETWORKS[name], functools.partial(points, name=name)))
        columns.append(("95 % interval", functools.partial(interval, name=name)))
    title = "Difference to the baseline: best epoch, paired by seed"
    few = sum(1 for group in others for name in _TESTED if compared(group, name)) > len(tested)
    return _table(title, others, columns, *_caution(len(tested), len(marked), few))


def calibration(groups: Sequence[Group]) -> Table:
    """Calibration errors, how far the peers differ, how far the regions they mix overlap."""
    columns = [
        (f"{title} ECE", _mean(f"best_{name}_calibration_error", "{:.2%}"))
        for name, title in list(_NETWORKS.items())[:3]
    ]
    columns += [
        ("Teacher NLL", _mean("best_negative_log_likelihood", "{:.3f}")),
        ("Disagreement", _mean("best_disagreement", "{:.2%}")),
        ("Distance", _mean("best_distance", "{:.3f}")),
        ("Region overlap", _mean("region_overlap", "{:.2%}")),
    ]
    return _table(
        "Calibration and diversity: test split, best epoch",
        groups,
        columns,
        "Means over seeds. ECE: expected calibration error. NLL: negative log likelihood in nats. "
        "Disagreement: part of the images that two peers label differently. Distance: L2, of two "
        "peers' probabilities. Region overlap: of two peers' boxes, mean over epochs.",
    )


def cost(groups: Sequence[Group], baselines: dict[str, Baseline]) -> Table:
    """What training costs, also as a multiple of the baseline's time and memory."""
    columns = [
        ("Images/s", _mean("images_per_second", "{:,.0f}")),
        ("Trained parameters", _mean("trained_parameters", "{:,.0f}")),
        ("MFLOPs/image", _mean("flops_per_image", "{:,.1f}", 1e6)),
        ("Peak memory", _mean("peak_memory_bytes", "{:,.0f} MiB", 2**20)),
        ("Wall time", _mean("wall_seconds", "{:,.0f} s")),
    ]
    if any(baseline.group for baseline in baselines.values()):
        columns += [
            ("Time / baseline", _ratio("wall_seconds", baselines)),
            ("Memory / baseline", _ratio("peak_memory_bytes", baselines)),
        ]
    return _table(
        "Cost of training",
        groups,
        columns,
        "Means over seeds. FLOPs: of one training step, per image. Time is that of the whole run "
        "with its evaluations and exports; other work on the machine is in it.",
    )


def settings(groups: Sequence[Group]) -> Table | None:
    """The settings and circumstances in which the groups differ; None where in none."""
    every = [{**group.settings, **group.circumstances} for group in groups]
    told = differing(every)
    if not told:
        return None
    columns = [(name, lambda group, name=name: _value(group, name)) for name in told]
    return _table("Settings in which the groups differ", groups, columns)


def _value(group: Group, name: str) -> str:
    return str({**group.settings, **group.circumstances}.get(name, NOT_RECORDED))


Cell = Callable[[Group], str]


def _table(
    title: str, groups: Sequence[Group], columns: Sequence[tuple[str, Cell]], *notes: str
) -> Table:
    """A row for each group; groups that are not compared with each other have a set's number."""
    if len({group.comparable_set for group in groups}) > 1:
        columns = [("Set", lambda group: str(group.comparable_set)), *columns]
        notes = (*notes, "Not comparable: rows of different sets.")
    header = ("Group", *(name for name, _ in columns))
    return Table(
        title, header, [(g.name, *(cell(g) for _, cell in columns)) for g in groups], notes
    )


def _with_deviation(figure: str) -> Cell:
    def cell(group: Group) -> str:
        found = summary(group, figure)
        if found is None:
            return _absent(group, figure)
        deviation = "" if found.deviation is None else f" ± {100 * found.deviation:.2f}"
        return f"{100 * found.mean:.2f}{deviation}{_share(group, found.runs)}"

    return cell


def _mean(figure: str, form: str, unit: float = 1.0) -> Cell:
    def cell(group: Group) -> str:
        found = summary(group, figure)
        if found is None:
            return _absent(group, figure)
        return form.format(found.mean / unit).replace("%", " %") + _share(group, found.runs)

    return cell


def _ratio(figure: str, baselines: dict[str, Baseline]) -> Cell:
    def cell(group: Group) -> str:
        baseline = baselines[group.name]
        if baseline.group is None:
            return baseline.words
        own, other = summary(group, figure), summary(baseline.group, figure)
        if own is None or other is None:
            return NOT_RECORDED
        return f"{own.mean / other.mean:.2f}"

    return cell


def _absent(group: Group, figure: str) -> str:
    """No such thing, where every run says so."""
    none = all(figure in run.figures for run in group.runs.values())
    return NO_SUCH_THING if none else NOT_RECORDED


def _share(group: Group, count: int) -> str:
    return "" if count == len(group.runs) else f" ({count} of {len(group.runs)} seeds)"


def _points(found: Difference | None, marked: bool) -> str:
    if found is None:
        return NO_SUCH_THING
    return f"{100 * found.mean:+.2f}{' *' if marked else ''}"


def _interval(found: Difference | None) -> str:
    if found is None:
        return NO_SUCH_THING
    if found.interval is None:
        return "too few seeds"
    low, high = found.interval
    return f"[{100 * low:+.2f}, {100 * high:+.2f}]"


def _caution(tested: int, marked: int, few: bool) -> list[str]:
    """What the intervals and the stars are."""
    notes = [
        "Percentage points of test accuracy, mean over the seeds that both groups have; 95 % "
        "interval of the mean of the differences by Student's t, each as it stands alone."
    ]
    if few:
        notes.append(f"No interval for fewer than {FEWEST_FOR_INTERVAL} common seeds.")
    if tested:
        notes.append(
            f"* p below {_LEVEL} in Student's t test, corrected by Holm for the {tested} "
            f"differences of this table: {marked}."
        )
    return notes


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
