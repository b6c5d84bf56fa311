"""The page of what pays: its tables are what the results say."""

import importlib.util
import json
import pathlib
import re
import statistics

import pytest

STUDY = pathlib.Path(__file__).parents[2] / "studies" / "small_data"


@pytest.fixture(scope="module")
def page():
    """The program."""
    found = importlib.util.spec_from_file_location("page", STUDY / "page.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text(page) -> str:
    return page.PAGE.read_text()


@pytest.fixture(scope="module")
def rows(text) -> dict[tuple[str, str], list[str]]:
    """The cells of each row by its table and its name."""
    found, table = {}, ""
    for line in text.splitlines():
        if marker := re.match(r"<!-- table: (.*) -->", line):
            table = marker[1]
        elif name := re.match(r"\| `(\w+)`:", line):
            found[table, name[1]] = [cell.strip() for cell in line.split("|")[2:-1]]
    return found


def test_the_tables_are_what_the_command_makes(page, text):
    assert page.filled(text) == text


def test_a_figure_that_was_changed_by_hand_is_made_anew(page, text, monkeypatch):
    monkeypatch.setattr(page, "table", lambda name: f"| {name} |\n")
    found = page.filled(text)
    assert [line for line in found.splitlines() if line.startswith("|")] == [
        f"| {name} |" for name in page.TABLES
    ]
    assert "## What is missing" in found
    with pytest.raises(ValueError, match="has 0 markers of the table"):
        page.filled("no page")


def test_every_row_with_results_is_in_a_table(rows):
    for regime in ("train1000_h100", "train2500_h100"):
        folders = (STUDY / "results" / regime).glob("*_seed*")
        expected = {path.name.rpartition("_seed")[0] for path in folders}
        assert {row for table, row in rows if table.startswith(regime)} == expected


def test_means_are_those_of_the_files(rows):
    for (table, row), cells in rows.items():
        folder = STUDY / "results" / table.split(",")[0]
        paths = folder.glob(f"{row}_seed[0-9]/result.json")
        last = [json.loads(path.read_text())["last"] for path in paths]
        assert int(cells[0]) == len(last) > 0
        peers = {
            split: 100
            * statistics.fmean(m[split][f"peer{k}_accuracy"] for m in last for k in (1, 2))
            for split in ("validation", "test")
        }
        teachers = {
            split: 100 * statistics.fmean(moment[split]["teacher_accuracy"] for moment in last)
            for split in ("validation", "test")
        }
        held_out = (peers["validation"] + teachers["validation"]) / 2
        likelihood = statistics.fmean(moment["test"]["loss"] for moment in last)
        expected = [held_out, peers["test"], teachers["test"], likelihood]
        for cell, value in zip(cells[1:5], expected, strict=True):
            assert float(cell) == pytest.approx(value, abs=0.0051)
