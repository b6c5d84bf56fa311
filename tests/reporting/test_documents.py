"""Documents: what is missing or unequal stands first, and nothing is lost on the way."""

import csv
import io
import pathlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.run_folders import make_runs
from tf_cutnmix.reporting import best_runs, comparison, documents
from tf_cutnmix.reporting.documents import Report
from tf_cutnmix.reporting.groups import Baseline, Grouping, choose_baseline, collect
from tf_cutnmix.reporting.tables import Table

BASE = {"method": "independent", "mix": "none"}
OURS = {"method": "cutnmix", "mix": "cutnmix"}


def baselines(grouping: Grouping) -> dict[str, Baseline]:
    groups = grouping.groups
    return {group.name: choose_baseline(group, groups) for group in groups}


def compose(grouping: Grouping, *problems: str) -> Report:
    found = sum(len(group.runs) for group in grouping.groups) + len(problems)
    return documents.compose(grouping.groups, baselines(grouping), problems, found=found)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


class Links(HTMLParser):
    """Everything that a page would load, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.tags.append(tag)
        self.links += [v for name, v in attrs if name.split(":")[-1] in ("src", "href", "srcset")]


@pytest.fixture
def grouping(tmp_path: pathlib.Path) -> Grouping:
    contents = [
        {**settings, "seed": seed, "teacher": accuracy + 0.1 / (3 + seed)}
        for settings, accuracy in ((BASE, 0.3), (OURS, 0.4))
        for seed in range(3)
    ]
    return collect(make_runs(tmp_path, *contents))


def test_runs_that_agree_have_no_warning(grouping: Grouping) -> None:
    report = compose(grouping)
    assert not report.warnings
    assert report.summary.startswith("Runs: 6 of 6. ")
    assert report.summary.endswith(": 2.")
    assert "## Warnings\n\nNone.\n" in documents.markdown(report)


def test_every_kind_of_trouble_is_a_warning(tmp_path: pathlib.Path) -> None:
    runs = make_runs(
        tmp_path,
        {**BASE, "seed": 0},
        {**BASE, "seed": 1},
        {**OURS, "seed": 0},
        {**OURS, "seed": 1},
        {**OURS, "seed": 1},
        {**OURS, "seed": 0, "epochs": 9},
    )
    runs[:2] = [run._replace(assumed=("--alpha",)) for run in runs[:2]]
    grouping = collect(runs)
    report = compose(grouping, "broken: a", *documents.duplicates(grouping))
    assert list(report.warnings) == [
        "broken: a",
        f"duplicates: cutnmix + cutnmix, epochs=2, seed 1: none of {runs[3].folder}, "
        f"{runs[4].folder} is used; leave out all but one",
        f"defaults assumed: no --alpha in flags.cfg of {runs[0].folder}, {runs[1].folder}",
        "missing seeds: cutnmix + cutnmix, epochs=2 lacks 1, which other groups have",
        "not comparable: epochs is 2 in set 1; 9 in set 2",
        "no baseline for cutnmix + cutnmix, epochs=9: not comparable; "
        "--baseline=SETTING=VALUE,... names another",
    ]


def test_warnings_stand_before_every_figure(grouping: Grouping) -> None:
    report = compose(grouping, "broken: <x>\n second line")
    text, page = documents.markdown(report), documents.page(report)
    assert "- broken: \\<x\\>\\\\n second line\n" in text
    assert text.index("- broken:") < text.index("| Group")
    assert r"<li>broken: &lt;x&gt;\n second line</li>" in page
    assert page.index("<li>broken:") < page.index("<table>")


def test_markdown_and_page_hold_the_same_tables(grouping: Grouping) -> None:
    report = compose(grouping)
    tables: list[Table] = [*report.accuracy, *report.more]
    assert len(tables) == 6
    text, page = documents.markdown(report), documents.page(report)
    for table in tables:
        assert f"## {table.title}\n\n{table.markdown()}" in text
        assert table.to_html() in page
    assert "--dataset=digits" in text
    assert "--dataset=digits" in page
    assert "--method=" not in text


def test_a_page_needs_no_network_and_no_script(grouping: Grouping) -> None:
    page = documents.page(compose(grouping))
    found = Links(page)
    assert found.tags.count("svg") == 2
    assert all(link.startswith("#") for link in found.links)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_pictures_stand_before_tables_and_tables_in_boxes_of_their_own(grouping: Grouping) -> None:
    page = documents.page(compose(grouping))
    assert page.rindex("<svg") < page.index("<table")
    assert page.count("<table") == page.count('<div class="scroll">\n<table')


def test_the_best_run_of_a_group_is_linked_and_shown(grouping: Grouping, tmp_path) -> None:
    _, ours = grouping.groups
    best = max(ours.runs.values(), key=lambda run: run.figures["best_teacher_accuracy"])
    (best.folder / "run.html").write_text("its page")
    shown, problems = best_runs.show(grouping.groups, tmp_path / "there")
    assert problems == []
    assert [one.group for one in shown] == [group.name for group in grouping.groups]
    assert shown[0].link == "runs/1.html"
    assert shown[0].page.startswith("<!DOCTYPE html>")
    assert (shown[1].link, shown[1].page) == (f"../{best.folder.name}/run.html", "")
    found = grouping.groups, baselines(grouping), []
    page = documents.page(documents.compose(*found, found=6, shown=shown))
    assert f'<a href="../{best.folder.name}/run.html">' in page
    assert page.count("<summary>") == 4
    assert "Course of the training" in page


def test_a_best_run_that_cannot_be_shown_is_a_line(grouping: Grouping, tmp_path) -> None:
    for run in grouping.groups[0].runs.values():
        (run.folder / "predictions.npz").write_text("no archive")
    shown, (line,) = best_runs.show(grouping.groups, tmp_path)
    assert len(shown) == 1
    assert line.startswith(f"not shown: cannot read {grouping.groups[0].runs[0].folder}")


def test_a_spreadsheet_computes_no_name(tmp_path: pathlib.Path) -> None:
    grouping = collect(make_runs(tmp_path, {"dataset": "=1+1"}, {"dataset": "-x"}))
    assert {row["dataset"] for row in rows(documents.runs_csv(grouping))} == {"'=1+1", "'-x"}


def test_sets_that_are_not_comparable_have_plots_of_their_own(tmp_path: pathlib.Path) -> None:
    report = compose(collect(make_runs(tmp_path, BASE, {**BASE, "epochs": 9})))
    titles = [title for title, _, _ in report.plots]
    assert [title.split(", ")[-1] for title in titles] == ["set 1", "set 1", "set 2", "set 2"]


# CSV


def test_the_table_of_runs_parses_back_to_the_same_numbers(grouping: Grouping) -> None:
    parsed = rows(documents.runs_csv(grouping))
    runs = [run for group in grouping.groups for run in group.runs.values()]
    assert len(parsed) == len(runs) == 6
    for row, run in zip(parsed, runs, strict=True):
        assert row["folder"] == str(run.folder)
        assert (row["used"], int(row["seed"])) == ("yes", run.config.seed)
        assert (row["method"], row["mix"]) == (run.config.method, run.config.mix)
        assert "epochs" not in row
        for name, value in run.figures.items():
            assert row[name] == "" if value is None else float(row[name]) == value
        own = run.result["best_on_validation"]["test"]["peer2_accuracy"]
        assert float(row["best_on_validation.test.peer2_accuracy"]) == own


def test_duplicates_are_in_the_table_of_runs_and_not_used(tmp_path: pathlib.Path) -> None:
    grouping = collect(make_runs(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 1}))
    parsed = rows(documents.runs_csv(grouping))
    assert [row["used"] for row in parsed] == ["yes", "no: duplicate", "no: duplicate"]
    assert [row["seed"] for row in parsed] == ["0", "1", "1"]
    assert {row["group"] for row in parsed} == {"independent + cutmix"}
    (group,) = rows(documents.summary_csv(grouping.groups, baselines(grouping)))
    assert group["seeds"] == "0"


def test_the_table_of_groups_parses_back_to_the_same_numbers(grouping: Grouping) -> None:
    base, ours = grouping.groups
    parsed = rows(documents.summary_csv(grouping.groups, baselines(grouping)))
    assert [row["group"] for row in parsed] == [base.name, ours.name]
    assert [row["baseline"] for row in parsed] == ["baseline", base.name]
    for row, group in zip(parsed, (base, ours), strict=True):
        assert row["seeds"] == "0 1 2"
        found = comparison.summary(group, "best_teacher_accuracy")
        keys = [f"best_teacher_accuracy_{part}" for part in ("mean", "deviation", "count")]
        assert tuple(float(row[key]) for key in keys) == found
    found = comparison.difference(ours, base, "best_teacher_accuracy")
    assert float(parsed[1]["teacher_difference"]) == found.mean == pytest.approx(0.1)
    ends = parsed[1]["teacher_difference_low"], parsed[1]["teacher_difference_high"]
    assert tuple(map(float, ends)) == found.interval
    assert parsed[1]["common_seeds"] == "0 1 2"
    assert parsed[0]["teacher_difference"] == ""
