"""Reports: what is missing or unequal stands first, and nothing is lost on the way."""

import csv
import io
import pathlib
import statistics
from typing import Any

import pytest

from tests.reporting.test_run_page import Reader
from tests.run_folders import make_runs
from tf_cutnmix.reporting import comparison, pages, report_page
from tf_cutnmix.reporting.comparison import Baseline, Group, choose_baseline, collect

BASE = {"method": "independent", "mix": "none"}
OURS = {"method": "cutnmix", "mix": "cutnmix"}


def baselines(groups: list[Group]) -> dict[str, Baseline]:
    return {group.name: choose_baseline(group, groups) for group in groups}


def content(groups: list[Group], *problems: str, out: str = "report") -> dict[str, Any]:
    found = sum(len(group.runs) for group in groups) + len(problems)
    return report_page.content(groups, baselines(groups), problems, pathlib.Path(out), found=found)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def two_groups(folder: pathlib.Path) -> list[Group]:
    contents = [
        {**settings, "seed": seed, "teacher": accuracy + 0.1 / (3 + seed) + spread * seed}
        for settings, accuracy, spread in ((BASE, 0.3, 0.0), (OURS, 0.4, 0.001))
        for seed in range(3)
    ]
    return collect(make_runs(folder, *contents))[0]


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[Group]:
    return two_groups(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def report(groups: list[Group]) -> dict[str, Any]:
    return content(groups)


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> str:
    return pages.render("report.html", **report)


def test_runs_that_agree_have_no_warning(report: dict[str, Any]) -> None:
    assert not report["warnings"]
    assert report["summary"].startswith("Runs: 6 of 6. ")
    assert report["summary"].endswith(": 2.")
    assert "## Warnings\n\nNone.\n" in pages.render("report.md", **report)


def test_every_kind_of_trouble_is_a_warning_and_a_set_has_plots_of_its_own(tmp_path) -> None:
    contents = [{**BASE, "seed": 0}, {**BASE, "seed": 1}, {**OURS, "seed": 0}]
    runs = make_runs(tmp_path, *contents, {**OURS, "seed": 0, "epochs": 9})
    (runs[2].folder / "predictions.npz").write_text("no archive")
    report = content(collect(runs)[0], "broken: a")
    problem, not_shown, *rest = report["warnings"]
    assert problem == "broken: a"
    assert not_shown.startswith(f"not shown: cannot read {runs[2].folder}")
    assert rest == [
        "missing seeds: cutnmix, epochs=2 lacks 1, which other groups have",
        "not comparable: epochs is 2 in set 1; 9 in set 2",
        "no baseline for cutnmix, epochs=9: not comparable; "
        "--baseline=SETTING=VALUE,... names another",
    ]
    assert len(report["shown"]) == 2
    told = [any("Not comparable" in note for note in table.notes) for table in report["tables"]]
    assert told == [*[False] * (len(told) - 1), True]
    titles = [title for title, _, _ in report["plots"]]
    assert [title.split(", ")[-1] for title in titles] == ["set 1", "set 1", "set 2", "set 2"]


def test_warnings_stand_before_every_figure_and_plots_before_tables(report) -> None:
    report = {**report, "warnings": ["broken: <x>\n second line"]}
    text, page = (pages.render(name, **report) for name in ("report.md", "report.html"))
    assert "- broken: \\<x\\>\\\\n second line\n" in text
    assert text.index("- broken:") < text.index("| Group")
    assert r"<li>broken: &lt;x&gt;\n second line</li>" in page
    assert page.index("<li>broken:") < page.index("<svg")
    main = page.split("Test accuracy: epoch")[0]
    assert main.count('<div class="scroll wide">\n<svg') == 2
    assert page.count("<table") == page.count('<div class="scroll">\n<table')
    links = [v for name, v in Reader(page).attributes if name.split(":")[-1] in ("src", "href")]
    assert all(link.startswith(("#", "runs/")) for link in links)


def test_markdown_and_page_hold_the_same_tables(report, page) -> None:
    text = pages.render("report.md", **report)
    assert len(report["tables"]) == 6
    for table in report["tables"]:
        assert f"## {table.title}\n\n{table.markdown()}" in text
        assert table.html() in page
    for shared in ("--dataset=digits\n", "--regions=uniform\n"):
        assert shared in text
        assert shared in page
    assert "--method=" not in text
    assert "=—" not in text


def test_the_best_run_of_a_group_is_linked_and_shown(tmp_path: pathlib.Path) -> None:
    groups = two_groups(tmp_path)
    best = max(groups[1].runs.values(), key=lambda run: run.figures["best_teacher_accuracy"])
    (best.folder / "run.html").write_text("its page")
    report = content(groups, out=str(tmp_path / "there"))
    base, ours = report["shown"]
    assert [base["group"], ours["group"]] == groups
    assert base["link"] == "runs/1.html"
    assert base["page"].startswith("<!DOCTYPE html>")
    assert (ours["link"], ours["page"]) == (f"../{best.folder.name}/run.html", "")
    page = pages.render("report.html", **report)
    assert f'<a href="../{best.folder.name}/run.html">' in page
    assert page.count("<summary>") == 4
    assert "Learning curves" in page


# CSV


def test_a_spreadsheet_computes_no_name(tmp_path: pathlib.Path) -> None:
    groups, _ = collect(make_runs(tmp_path, {"dataset": "=1+1"}, {"dataset": "-x"}))
    assert {row["dataset"] for row in rows(report_page.runs_csv(groups))} == {"'=1+1", "'-x"}


def test_the_table_of_runs_parses_back_to_the_same_numbers(groups: list[Group]) -> None:
    parsed = rows(report_page.runs_csv(groups))
    runs = [run for group in groups for run in group.runs.values()]
    for row, run in zip(parsed, runs, strict=True):
        assert row["folder"] == str(run.folder)
        assert int(row["seed"]) == run.config.seed
        assert (row["method"], row["mix"]) == (run.config.method, run.config.mix)
        assert "epochs" not in row
        for name, value in run.figures.items():
            assert float(row[name]) == value
        own = run.result["best_on_validation"]["test"]["peer2_accuracy"]
        assert float(row["best_on_validation.test.peer2_accuracy"]) == own


def test_the_table_of_groups_parses_back_to_the_same_numbers(groups: list[Group]) -> None:
    base, ours = groups
    parsed = rows(report_page.summary_csv(groups, baselines(groups)))
    assert [row["group"] for row in parsed] == [base.name, ours.name]
    assert [row["baseline"] for row in parsed] == ["baseline", base.name]
    for row, group in zip(parsed, groups, strict=True):
        assert row["seeds"] == "0 1 2"
        accuracies = [run.figures["best_teacher_accuracy"] for run in group.runs.values()]
        expected = statistics.mean(accuracies), statistics.stdev(accuracies), 3
        keys = [f"best_teacher_accuracy_{part}" for part in ("mean", "deviation", "count")]
        assert [float(row[key]) for key in keys] == pytest.approx(expected)
    found = comparison.difference(ours, base, "best_teacher_accuracy")
    assert float(parsed[1]["teacher_difference"]) == found.mean == pytest.approx(0.101)
    ends = parsed[1]["teacher_difference_low"], parsed[1]["teacher_difference_high"]
    assert tuple(map(float, ends)) == (found.low, found.high)
    assert parsed[1]["common_seeds"] == "0 1 2"
    assert parsed[0]["teacher_difference"] == ""
    # The mean peers' are equal in all seeds.
    assert float(parsed[1]["mean_peer_difference"]) == 0
    assert parsed[1]["mean_peer_p_value"] == parsed[1]["mean_peer_difference_low"] == ""
