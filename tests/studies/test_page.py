"""The page of what pays: its tables are what the results say."""

import json
import math
import pathlib
import re
import statistics
from fractions import Fraction

import pytest

from tests.studies import programs

STUDY = programs.STUDIES / "small_data"
README = pathlib.Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def page():
    return programs.load(STUDY / "page.py")


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


REGIMES = sorted(path.name for path in (STUDY / "results").glob("*_h100"))
# Seeds 8 and 9 of 2,500 images were made elsewhere.
FURTHER = {"train2500_h100": ["train2500"]}


def folders(regime: str) -> list[pathlib.Path]:
    """Of all runs, on each machine."""
    places = [regime, *FURTHER.get(regime, [])]
    return [path for place in places for path in (STUDY / "results" / place).iterdir()]


def test_results_on_held_out_images_name_them():
    for regime in REGIMES:
        for path in folders(regime):
            result = json.loads((path / "result.json").read_text())
            named = "--validation_split=train[" in (path / "flags.cfg").read_text()
            assert named == ("validation" in result["last"]), path


def test_every_row_with_results_is_in_a_table(rows):
    for regime in REGIMES:
        names = [path.name for path in (STUDY / "results" / regime).glob("*_seed*")]
        expected = {name.rpartition("_seed")[0] for name in names}
        assert {row for table, row in rows if table.split(",")[0] == regime} == expected


def lasts(regime: str, row: str) -> dict[int, dict]:
    """By seed, the figures after the last epoch."""
    names = {f"{row}_seed{k}": k for k in range(10)} | {
        f"seed={k},flagfile={row}": k for k in range(10)
    }
    chosen = {names[path.name]: path for path in folders(regime) if path.name in names}
    return {k: json.loads((path / "result.json").read_text())["last"] for k, path in chosen.items()}


def accuracies(last: dict, split: str) -> tuple[Fraction, Fraction]:
    """Percent of the mean peer and of the teacher, exactly: each is a count of at most 10,000."""
    shares = {
        name: 100 * Fraction(value).limit_denominator(10_000)
        for name, value in last[split].items()
        if re.match(r"(peer\d+|teacher)_accuracy", name)
    }
    teacher = shares.pop("teacher_accuracy")
    return statistics.mean(shares.values()), teacher


def shown(value: Fraction, sign: str = "") -> str:
    """With two decimals, a half away from 0, by whole numbers."""
    hundredths = math.floor(abs(value) * 100 + Fraction(1, 2))
    digits = f"{hundredths // 100}.{hundredths % 100:02}"
    return ("-" if value < 0 and hundredths else sign) + digits


def test_means_are_those_of_the_files(rows):
    for (table, row), cells in rows.items():
        last = list(lasts(table.split(",")[0], row).values())
        assert int(cells[0]) == len(last) > 0
        means = [
            statistics.mean(x)
            for x in zip(*(accuracies(moment, "test") for moment in last), strict=True)
        ]
        assert cells[2:4] == [shown(value) for value in means]
        likelihood = statistics.fmean(moment["test"]["loss"] for moment in last)
        assert float(cells[4]) == pytest.approx(likelihood, abs=0.00051)
        held_out = [
            sum(accuracies(moment, "validation")) / 2 for moment in last if "validation" in moment
        ]
        fewer = f" ({len(held_out)} seeds)" if len(held_out) < len(last) else ""
        assert cells[1] == (shown(statistics.mean(held_out)) + fewer if held_out else "")


def test_the_readme_says_which_figures_stand_together(page):
    stand = [line for line in page.after_holm()[1:] if float(line[3]) < 0.05]
    assert {regime for regime, *_ in stand} == {"train1000"}
    after = [f"{float(line[3]):.3f}".removeprefix("0") for line in stand]
    assert " and ".join(after) in README.read_text()


def test_the_readme_repeats_the_page(text):
    wanted = ("train1000", "train2500", "train5000", "letters")
    cells = r"(\d+) \| 1.33 \| ([^|]+) \| ([^|]+) \|"
    measured = re.findall(rf"\| (\w+) \| `cutnmix` \| `independent_cutmix` \| {cells}", text)
    repeated = re.findall(r"\| (\d+) \| ([+-][^|]+) \| ([+-][^|]+) \|", README.read_text())
    assert repeated == [tuple(cells) for regime, *cells in measured if regime in wanted]
    assert len(repeated) == len(wanted)


def test_the_plot_is_what_the_command_makes(page):
    assert page.PLOT.read_text() == page.plot()
