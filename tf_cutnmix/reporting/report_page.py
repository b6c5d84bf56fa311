"""A report as Markdown, as a page and as CSV."""

import os
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from tf_cutnmix import escaping
from tf_cutnmix.errors import RunError
from tf_cutnmix.reporting import plots, run_page, tables
from tf_cutnmix.reporting.across import FEWEST, NETWORKS, Across
from tf_cutnmix.reporting.comparison import (
    NO_MEANING,
    Baseline,
    Group,
    difference,
    differing,
    recorded,
    settings_of,
)
from tf_cutnmix.reporting.runs import Run


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
      along: groups along a setting that is to be looked at.
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
    told = [
        tables.accuracy(groups, "best"),
        tables.accuracy(groups, "last"),
        tables.differences(groups, baselines),
        tables.across(along) if along else None,
        tables.calibration(groups),
        tables.cost(groups, baselines),
        tables.settings(groups),
    ]
    differ = differing([group.settings for group in groups])
    common = {k: v for g in groups for k, v in g.settings.items() if v != NO_MEANING}
    return {
        "title": "Report",
        "summary": f"Runs: {used} of {found}. Groups of runs that are equal in all but their "
        f"seed: {len(groups)}.",
        "warnings": [*problems, *not_shown, *_warnings(groups, baselines, along)],
        "plots": drawn,
        "shown": shown,
        "tables": [table for table in told if table],
        "common": [f"--{name}={value}" for name, value in common.items() if name not in differ],
    }


def _best_runs(
    groups: Sequence[Group], out: pathlib.Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """The run of each group whose teacher does best at the best epoch, to look at.

    Returns:
      What the report shows of it, and its `page` or "" where it has one; a line for each that
      cannot be shown.
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
        accuracy = f"{run.figures['best_teacher_accuracy']:.2%}"
        shown.append(
            {"group": group.name, "run": run, "accuracy": accuracy, "content": own}
            | {"link": link, "page": page}
        )
    return shown, problems


def _warnings(
    groups: Sequence[Group], baselines: dict[str, Baseline], along: Across | None
) -> list[str]:
    """A line for all that is missing or unequal in groups."""
    lines = []
    # Runs of an older version lack the same settings.
    folders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in groups:
        for run in group.runs.values():
            folders[run.assumed].append(str(run.folder))
    for names, where in folders.items():
        if names:
            lines.append(
                f"defaults assumed: no {', '.join(names)} in flags.cfg of {', '.join(where)}"
            )
    sets: dict[int, list[Group]] = defaultdict(list)
    for group in groups:
        sets[group.comparable_set].append(group)
    for group in groups:
        comparable = {seed for other in sets[group.comparable_set] for seed in other.runs}
        if lacking := sorted(comparable - group.runs.keys()):
            seeds = ", ".join(map(str, lacking))
            lines.append(f"missing seeds: {group.name} lacks {seeds}, which other groups have")
    conditions = {number: members[0].conditions for number, members in sets.items()}
    for name in differing(conditions.values()):
        values = {number: own.get(name, tables.NOT_RECORDED) for number, own in conditions.items()}
        words = "; ".join(f"{value} in set {number}" for number, value in values.items())
        lines.append(f"not comparable: {name} is {words}")
    if along:
        few = f"which has fewer than {FEWEST} values of it"
        lines += [f"not drawn across {along.setting}: {name}, {few}" for name in along.short]
    for name, baseline in baselines.items():
        if baseline.group is None:
            lines.append(
                f"no baseline for {name}: {baseline.words}; --baseline=SETTING=VALUE,... names "
                "another"
            )
    return lines


def runs_csv(groups: Sequence[Group], duplicates: Iterable[tuple[str, list[Run]]]) -> str:
    """A line for each run: settings that differ, figures, and all numbers of `result.json`.

    Accuracies, errors and overlaps are parts of 1. What a run has not recorded is left empty.
    """
    rows: list[tuple[Run, dict[str, Any]]] = []
    for group in groups:
        place = {"group": group.name, "set": group.comparable_set, "used": "yes"}
        rows += [(run, place) for run in group.runs.values()]
    for name, same in duplicates:
        rows += [(run, {"group": name, "set": "", "used": "no: duplicate"}) for run in same]
    every = [settings_of(run.config, run.result) | run.retired for run, _ in rows]
    told = differing(every)
    return _csv(
        {
            "folder": str(run.folder),
            **place,
            "seed": run.config.seed,
            **{name: settings[name] for name in told},
            **run.figures,
            **_numbers(run.result),
        }
        for (run, place), settings in zip(rows, every, strict=True)
    )


def _numbers(result: dict[str, Any]) -> dict[str, float]:
    """The numbers in nested dictionaries, under their keys joined with dots."""
    (flat,) = pd.json_normalize(result).to_dict("records")
    return {name: value for name, value in flat.items() if isinstance(value, int | float)}


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
                row["common_seeds"] = " ".join(map(str, found.seeds))
                row[f"{name}_difference"] = found.mean
                row[f"{name}_p_value"] = found.p_value
                row[f"{name}_difference_low"] = found.low
                row[f"{name}_difference_high"] = found.high
        figures = pd.DataFrame([run.figures for run in group.runs.values()], dtype=float)
        for name, values in figures.dropna(axis=1, how="all").items():
            row[f"{name}_mean"], row[f"{name}_deviation"] = values.mean(), values.std()
            row[f"{name}_count"] = values.count()
        rows.append(row)
    return _csv(rows)


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with a header of all keys, in the order in which they first appear."""
    table = pd.DataFrame([*rows], dtype=object)
    return table.map(escaping.cell).to_csv(index=False, lineterminator="\n")
