"""A report as Markdown, as a page and as CSV."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tf_cutnmix import escaping
from tf_cutnmix.reporting import across, best_runs, comparison, pages, plots, tables
from tf_cutnmix.reporting.across import Across
from tf_cutnmix.reporting.best_runs import Shown
from tf_cutnmix.reporting.groups import (
    Baseline,
    Group,
    Grouping,
    differing,
    missing_seeds,
    settings_of,
    unequal_conditions,
)
from tf_cutnmix.reporting.tables import Table


class Report(NamedTuple):
    """What a report says, in the order in which it says it.

    Attributes:
      summary: one sentence.
      warnings: what is missing or unequal, a line each.
      accuracy: tables of what runs are compared by first.
      plots: titles, `<svg>` elements and captions.
      shown: the best run of each group, on the page alone.
      more: further tables.
      common: settings that all groups share, as flags.
    """

    summary: str
    warnings: Sequence[str]
    accuracy: Sequence[Table]
    plots: Sequence[tuple[str, str, str]]
    shown: Sequence[Shown]
    more: Sequence[Table]
    common: str


def compose(
    groups: Sequence[Group],
    baselines: dict[str, Baseline],
    problems: Sequence[str],
    *,
    found: int,
    shown: Sequence[Shown] = (),
    along: Across | None = None,
) -> Report:
    """The report of one or more groups.

    Args:
      groups: of runs.
      baselines: by the names of the groups.
      problems: runs that are left out, a line each.
      found: runs, with those that are left out.
      shown: the best run of each group.
      along: groups along a setting that is to be looked at.
    """
    used = sum(len(group.runs) for group in groups)
    pictures = []
    for number in dict.fromkeys(group.comparable_set for group in groups):
        members = [group for group in groups if group.comparable_set == number]
        where = f", set {number}" if len(members) < len(groups) else ""
        pictures.append(
            (f"Test accuracy at the best epoch{where}", plots.accuracies(members), plots.DOTS)
        )
        pictures.append((f"Learning curves{where}", plots.curves(members), plots.BANDS))
    accuracies = [
        *(tables.accuracy(groups, moment) for moment in ("best", "last")),
        tables.differences(groups, baselines),
    ]
    if along:
        pictures.append((across.heading(along), across.plot(along), across.caption(along)))
        accuracies.append(across.table(along))
    more = [
        tables.calibration(groups),
        tables.cost(groups, baselines),
        tables.settings(groups),
    ]
    return Report(
        summary=f"Runs: {used} of {found}. Groups of runs that are equal in all but their seed: "
        f"{len(groups)}.",
        warnings=[
            *problems,
            *_assumed(groups),
            *missing_seeds(groups),
            *unequal_conditions(groups),
            *(across.warnings(along) if along else []),
            *_without_baseline(baselines),
        ],
        accuracy=[table for table in accuracies if table],
        plots=pictures,
        shown=shown,
        more=[table for table in more if table],
        common=_common_settings(groups),
    )


def duplicates(grouping: Grouping) -> list[str]:
    """A line for each seed that several runs of a group have."""
    return [
        f"duplicates: {name}, seed {same[0].config.seed}: none of "
        f"{', '.join(str(run.folder) for run in same)} is used; leave out all but one"
        for name, same in grouping.duplicates
    ]


def markdown(report: Report) -> str:
    """The report without its plots."""
    parts = ["# Report", report.summary, "## Warnings"]
    parts.append("\n".join(f"- {escaping.markdown(line)}" for line in report.warnings) or "None.")
    for table in (*report.accuracy, *report.more):
        parts += [f"## {table.title}", table.markdown().rstrip()]
    parts += ["## Settings that all groups share", f"```\n{report.common}\n```"]
    return "\n\n".join(parts) + "\n"


def page(report: Report) -> str:
    """The report as one HTML file that needs nothing else, pictures before tables."""
    body = [
        "<h1>Report</h1>",
        f'<p class="summary">{escaping.html(report.summary)}</p>',
        pages.warnings(report.warnings),
    ]
    for title, svg, caption in report.plots:
        note = f'<span class="note">{escaping.html(caption)}</span>'
        body.append(pages.heading(title))
        body.append(pages.captioned(pages.scrolled(svg, wide=True), note))
    if report.shown:
        body.append(pages.heading("The best run of each group"))
        body += map(best_runs.section, report.shown)
    for table in (*report.accuracy, *report.more):
        body += [pages.heading(table.title), pages.scrolled(table.to_html())]
    body.append(pages.heading("Settings that all groups share"))
    body.append(pages.code(report.common.splitlines()))
    return pages.page("Report", body)


def runs_csv(grouping: Grouping) -> str:
    """A line for each run: settings that differ, figures, and all numbers of `result.json`.

    Accuracies, errors and overlaps are parts of 1. What a run has not recorded is left empty.
    """
    rows = [
        (run, {"group": group.name, "set": group.comparable_set, "used": "yes"})
        for group in grouping.groups
        for run in group.runs.values()
    ]
    rows += [
        (run, {"group": name, "set": "", "used": "no: duplicate"})
        for name, same in grouping.duplicates
        for run in same
    ]
    told = differing([settings_of(run.config) for run, _ in rows])
    return _csv(
        {
            "folder": str(run.folder),
            **place,
            "seed": run.config.seed,
            **{name: settings_of(run.config)[name] for name in told},
            **run.figures,
            **_numbers(run.result),
        }
        for run, place in rows
    )


def summary_csv(groups: Sequence[Group], baselines: dict[str, Baseline]) -> str:
    """A line for each group: the paired differences to the baseline at the best epoch, with the
    ends of their intervals and uncorrected p-values, and of each figure the mean, the deviation
    and the number of runs.
    """
    figures = dict.fromkeys(
        name for group in groups for run in group.runs.values() for name in run.figures
    )
    rows = []
    for group in groups:
        row: dict[str, Any] = {
            "group": group.name,
            "set": group.comparable_set,
            "seeds": " ".join(map(str, group.runs)),
            "baseline": baselines[group.name].words,
            **_differences(group, baselines[group.name].group),
        }
        for name in figures:
            if found := comparison.summary(group, name):
                row[f"{name}_mean"], row[f"{name}_deviation"], row[f"{name}_count"] = found
        rows.append(row)
    return _csv(rows)


def _differences(group: Group, baseline: Group | None) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if baseline is None or baseline is group:
        return row
    for name in ("teacher", "mean_peer"):
        if found := comparison.difference(group, baseline, f"best_{name}_accuracy"):
            row["common_seeds"] = " ".join(map(str, found.seeds))
            row[f"{name}_difference"] = found.mean
            row[f"{name}_p_value"] = found.p_value
            if found.interval:
                row[f"{name}_difference_low"], row[f"{name}_difference_high"] = found.interval
    return row


def _assumed(groups: Sequence[Group]) -> list[str]:
    """A line for runs whose flagfiles lack the same settings, as those of an older version."""
    folders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in groups:
        for run in group.runs.values():
            folders[run.assumed].append(str(run.folder))
    return [
        f"defaults assumed: no {', '.join(names)} in flags.cfg of {', '.join(where)}"
        for names, where in folders.items()
        if names
    ]


def _without_baseline(baselines: dict[str, Baseline]) -> list[str]:
    """A line for each group that is compared with none."""
    return [
        f"no baseline for {name}: {baseline.words}; --baseline=SETTING=VALUE,... names another"
        for name, baseline in baselines.items()
        if baseline.group is None
    ]


def _common_settings(groups: Sequence[Group]) -> str:
    """The settings that all groups share, as lines of a flagfile."""
    differ = differing([group.settings for group in groups])
    common = {k: v for k, v in groups[0].settings.items() if k not in differ}
    return "\n".join(escaping.one_line(f"--{k}={v}") for k, v in common.items())


def _numbers(result: Any, prefix: str = "") -> dict[str, float]:
    """The numbers in nested dictionaries, under their keys joined with dots."""
    if isinstance(result, dict):
        found = [_numbers(value, f"{prefix}.{name}") for name, value in result.items()]
        return {name: value for numbers in found for name, value in numbers.items()}
    return {prefix.removeprefix("."): result} if isinstance(result, int | float) else {}


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows with a header of all keys, in the order in which they first appear."""
    rows = [{name: escaping.cell(value) for name, value in row.items()} for row in rows]
    file = io.StringIO()
    header = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
