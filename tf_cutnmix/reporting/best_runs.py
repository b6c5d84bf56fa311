"""The best run of each group, to look at."""

import os
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import NamedTuple

from tf_cutnmix.errors import RunError
from tf_cutnmix.reporting import pages, run_page
from tf_cutnmix.reporting.comparison import best_run
from tf_cutnmix.reporting.groups import Group
from tf_cutnmix.reporting.runs import Run


class Shown(NamedTuple):
    """The best run of a group.

    Attributes:
      group: its name.
      run: whose teacher does best on the test split at the best epoch.
      sections: of its page.
      link: from the report to its page.
      page: what the report writes there, or "" where the run has its page already.
    """

    group: str
    run: Run
    sections: list[str]
    link: str
    page: str


def show(groups: Sequence[Group], out: pathlib.Path) -> tuple[list[Shown], list[str]]:
    """The best run of each group whose folder can be shown, and a line for each other one.

    Args:
      groups: of runs.
      out: the folder of the report; what it links to is written from there.
    """
    shown, problems = [], []
    for number, group in enumerate(groups, start=1):
        run = best_run(group)
        try:
            sections = run_page.sections(run)
        except RunError as error:
            problems.append(f"not shown: {error}")
            continue
        own = run.folder / run_page.NAME
        if own.is_file():
            link = os.path.relpath(own.resolve(), out.resolve())
            shown.append(Shown(group.name, run, sections, link, page=""))
        else:
            page = run_page.page(run, sections)
            shown.append(Shown(group.name, run, sections, f"runs/{number}.html", page))
    return shown, problems


def section(shown: Shown) -> str:
    """What a report shows of a run, folded until it is asked for."""
    link = urllib.parse.quote(shown.link)
    accuracy = shown.run.figures["best_teacher_accuracy"] or 0.0
    return (
        f"<details>\n<summary>{pages.name(shown.group)}: {accuracy:.2%}, seed "
        f"{shown.run.config.seed}</summary>\n"
        f'<p><a href="{link}">{pages.name(str(shown.run.folder))}</a></p>\n'
        + "\n".join(shown.sections)
        + "\n</details>"
    )
