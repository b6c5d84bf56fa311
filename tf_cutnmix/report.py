"""Compare finished runs: `python -m tf_cutnmix.report RUNS --out=report`."""

import dataclasses
import functools
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from tf_cutnmix import command, places
from tf_cutnmix.errors import InputError, RunError, unknown
from tf_cutnmix.runs.config import Config
from tf_cutnmix.settings import check, setting

SUMMARY = """\
Compares finished runs: tables of accuracy, calibration, diversity and cost over seeds, paired
differences to a baseline, learning curves, the best run of each group. Writes report.md,
report.html, report.csv (a line for each run that is used) and summary.csv (a line for each group
of runs that differ in their seed alone), and a page for each best run that has none of its own.

  python -m tf_cutnmix.report runs --out=report"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a report.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    runs: tuple[str, ...] = setting(
        (), "runs", "folders: each is a run or holds runs at any depth", positional=True
    )
    out: str = setting("report", "report", "folder to write the report into")
    baseline: str = setting(
        "",
        "report",
        "settings of the runs to compare with: 'method=independent,mix=cutmix'; by default "
        "independent peers, with the same mixing if there are any",
    )
    across: str = setting(
        "",
        "report",
        "a setting with three values or more, such as train_split, epochs or arch: a plot of "
        "accuracy across them, with a line for each group of runs that differ in nothing else",
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.runs:
            raise InputError("RUNS is missing: name folders of runs, or folders that hold them")


def main(settings: Settings) -> None:
    """Write the report and say on stderr what is missing in it."""
    for place in settings.runs:
        places.check_folder(place)
    # They load pandas, SciPy and matplotlib, for which --help does not wait.
    from tf_cutnmix import files
    from tf_cutnmix.reporting import comparison, pages, report_page, runs

    wanted = _baseline_settings(settings.baseline) if settings.baseline else None
    out = pathlib.Path(settings.out)
    if out.is_file():
        raise InputError(f"--out={out} is a file: name a folder")
    folders = runs.find(settings.runs)
    found, problems = [], []
    for folder in folders:
        try:
            found.append(runs.read(folder, functools.partial(command.read, Config)))
        except RunError as error:
            problems.append(" ".join(str(error).split()))
    groups, duplicates = comparison.collect(found)
    problems += duplicates
    if not groups:
        _warn(problems)
        raise InputError(f"none of {len(folders)} runs in {', '.join(settings.runs)} can be used")
    baselines = {g.name: comparison.choose_baseline(g, groups, wanted) for g in groups}
    along = comparison.across(groups, settings.across) if settings.across else None
    report = report_page.content(groups, baselines, problems, out, found=len(folders), along=along)
    contents = {
        "report.md": pages.render("report.md", **report),
        "report.html": pages.render("report.html", **report),
        "report.csv": report_page.runs_csv(groups),
        "summary.csv": report_page.summary_csv(groups, baselines),
        **{one["link"]: one["page"] for one in report["shown"] if one["page"]},
    }
    for name, text in contents.items():
        files.make_folder((out / name).parent, "out")
        files.write(out / name, text.encode())
    _warn(report["warnings"])
    print(f"{report['summary']}\nreport: {out / 'report.html'}")


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _baseline_settings(text: str) -> dict[str, Any]:
    """The settings that --baseline names, of the types that they have in a run."""
    from tf_cutnmix.reporting.comparison import DEFAULTS, settings_of

    # A value may hold commas.
    parts = [part.strip() for part in re.split(r",(?=\s*\w+=)", text)]
    names = [part.partition("=")[0] for part in parts]
    for part, name in zip(parts, names, strict=True):
        if "=" not in part:
            raise InputError(f"--baseline={text}: {part!r} is not of the form setting=value")
        if name not in DEFAULTS:
            raise unknown("setting in --baseline", name, DEFAULTS)
    values = settings_of(command.parse(Config, [f"--{part}" for part in parts]))
    return {name: values[name] for name in names}


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.report", SUMMARY, Settings, main))
