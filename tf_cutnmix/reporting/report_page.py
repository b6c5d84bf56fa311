"""A report as Markdown, as a page and as CSV."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from tf_cutnmix import escaping
from tf_cutnmix.errors import RunError
from tf_cutnmix.reporting import plots, run_page, tables
from tf_cutnmix.reporting.comparison import (
    DEFAULTS,
    FEWEST_FOR_LINE,
    NETWORKS,
    NO_MEANING,
    Across,
    Baseline,
    Group,
    difference,
    differing,
    recorded,
)


def content(
    groups: Sequence[Group],
    baselines: dict[str, Baseline],
    problems: Sequence[str],
    out: pathlib.Path,
    *,
    found: int,
    along: Across | None = None,
) -> dict[str, Any]:
    """What `templates/report.html` and `report.md` show of one or more groups.

    Args:
      groups: all.
      baselines: by the names of the groups.
      problems: runs that are left out, a line each.
      out: the folder of the report; what it links to is written from there.
      found: runs, with those that are left out.
      along: groups along a setting, if there is to be a plot of them.
    """
    used = sum(len(group.runs) for group in groups)
    shown, not_shown = _best_runs(groups, out)
    drawn = []
    for number in dict.fromkeys(group.comparable_set for group in groups):
        members = [group for group in groups if group.comparable_set == number]
        where = f", set {number}" if len(members) < len(groups) else ""
        dots = f"Test accuracy at the best epoch{where}"
        drawn.append((dots, plots.accuracies(members), plots.DOTS))
        drawn.append((f"Learning curves{where}", plots.curves(members), plots.BANDS))
    if along:
        drawn.append((along.title, plots.across(along), along.caption))
    shown_tables = [
        tables.accuracy(groups, "best"),
        tables.accuracy(groups, "last"),
        tables.differences(groups, baselines),
        tables.across(along) if along else None,
        tables.calibration(groups),
        tables.cost(groups, baselines),
        tables.settings(groups),
    ]
    kept = [table for table in shown_tables if table]
    if len({group.comparable_set for group in groups}) > 1:
        last = kept.pop()
        kept.append(last._replace(notes=(*last.notes, "Not comparable: rows of different sets.")))
    differ = differing(group.settings for group in groups)
    common = {n: g.settings[n] for n in DEFAULTS for g in groups if g.settings[n] != NO_MEANING}
    return {
        "title": "Report",
        "summary": f"Runs: {used} of {found}. Groups of runs that are equal in all but their "
        f"seed and fold: {len(groups)}.",
        "warnings": [*problems, *not_shown, *_warnings(groups, baselines, along)],
        "plots": drawn,
        "shown": shown,
        "tables": kept,
        "common": [f"--{name}={value}" for name, value in common.items() if name not in differ],
    }


def _best_runs(
    groups: Sequence[Group], out: pathlib.Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """What a report shows of the run of each group whose teacher does best at the best epoch, and
    its `page` or "" where it has one; a line for each that cannot be shown.
    """
    shown, problems = [], []
    for number, group in enumerate(groups, start=1):
        run = group.runs[recorded(group, "best_teacher_accuracy").idxmax()]
        try:
            own = run_page.content(run)
        except RunError as error:
            problems.append(f"not shown: {error}")
            continue
        path, link, page = run.folder / run_page.NAME, f"runs/{number}.html", ""
        if path.is_file():
            link = os.path.relpath(path.resolve(), out.resolve())
        else:
            page = run_page.page(run, own)
        shown.append({"group": group, "run": run, "content": own, "link": link, "page": page})
    return shown, problems


def _warnings(
    groups: Sequence[Group], baselines: dict[str, Baseline], along: Across | None
) -> list[str]:
    """A line for all that is missing or unequal in groups."""
    lines = []
    for group in groups:
        near = [other for other in groups if other.comparable_set == group.comparable_set]
        if lacking := sorted({seed for other in near for seed in other.runs} - {*group.runs}):
            seeds = ", ".join(map(str, lacking))
            lines.append(f"missing seeds: {group.name} lacks {seeds}, which other groups have")
    conditions = {group.comparable_set: group.conditions for group in groups}
    for name in differing(conditions.values()):
        own = {number: values.get(name, "not recorded") for number, values in conditions.items()}
        words = "; ".join(f"{value} in set {number}" for number, value in own.items())
        lines.append(f"not comparable: {name} is {words}")
    if any(group.settings["fold"] for group in groups):
        lines.append(
            "folds count as seeds do, but share training images: intervals over them are too narrow"
        )
    if along:
        few = f"which has fewer than {FEWEST_FOR_LINE} values of it"
        lines += [f"not drawn across {along.setting}: {name}, {few}" for name in along.short]
    return lines + [
        f"no baseline for {name}: {baseline.words}; --baseline=SETTING=VALUE,... names another"
        for name, baseline in baselines.items()
        if baseline.group is None
    ]


def runs_csv(groups: Sequence[Group]) -> str:
    """A line for each run: settings that differ, figures, and all numbers of `result.json`.

    Accuracies, errors and overlaps are parts of 1. What a run has not recorded is left empty.
    """
    differ = [n for n in differing(group.settings for group in groups) if n in DEFAULTS]
    rows = []
    for group in groups:
        for seed, run in group.runs.items():
            row = {"folder": str(run.folder), "group": group.name, "set": group.comparable_set}
            row |= {"seed": seed} | {name: group.settings[name] for name in differ} | run.figures
            (flat,) = pd.json_normalize(run.result).to_dict("records")
            numbers = {name: v for name, v in flat.items() if isinstance(v, int | float)}
            rows.append(row | numbers)
    return _csv(rows)


def summary_csv(groups: Sequence[Group], baselines: dict[str, Baseline]) -> str:
    """A line for each group: the paired differences to the baseline at the best epoch, with the
    ends of their intervals and uncorrected p-values, and of each figure the mean, the deviation
    and the number of runs.
    """
    rows = []
    for group in groups:
        baseline, words = baselines[group.name]
        row: dict[str, Any] = {"group": group.name, "set": group.comparable_set}
        row |= {"seeds": " ".join(map(str, group.runs)), "baseline": words}
        for name in NETWORKS:
            found = baseline and difference(group, baseline, f"best_{name}_accuracy")
            if found and baseline is not group:
                row |= {"common_seeds": " ".join(map(str, found.seeds))}
                row |= {f"{name}_difference": found.mean, f"{name}_p_value": found.p_value}
                row |= {f"{name}_difference_low": found.low, f"{name}_difference_high": found.high}
        figures = pd.DataFrame([run.figures for run in group.runs.values()], dtype=float)
        for name, (mean, std, count) in figures.agg(["mean", "std", "count"]).items():
            row |= {f"{name}_mean": mean, f"{name}_deviation": std, f"{name}_count": int(count)}
        rows.append(row)
    return _csv(rows)


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with a header of all keys, in the order in which they first appear."""
    return escaping.csv(pd.DataFrame([*rows], dtype=object))
