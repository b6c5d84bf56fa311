"""Benchmarks: turns, their figures, results that outlive a failure, and programs that run."""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import faults, tables, turns

ROOT = pathlib.Path(__file__).parents[2]
FACTS = {"benchmark": "some", "title": "Some figures"}

pytestmark = pytest.mark.bench


# Turns


@pytest.mark.parametrize(("seconds", "least", "most", "rounds"), [(0, 3, 9, 3), (60, 1, 4, 4)])
def test_programs_take_turns_for_as_many_rounds(
    seconds: float, least: int, most: int, rounds: int
) -> None:
    calls = []
    programs = {name: lambda name=name: calls.append(name) for name in "ABC"}
    times = turns.in_turns(programs, seconds=seconds, warm_up=2, least=least, most=most)
    assert calls == list("ABC") * (2 + rounds)
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("ABC", rounds)
    assert all(value >= 0 for values in times.values() for value in values)


def test_calls_that_lead_a_turn_are_not_counted() -> None:
    pauses = {0: 0.2, 1: 0.2, 3: 0.03}  # of a turn of two calls that lead and three that count
    calls = []

    def program() -> None:
        calls.append(len(calls))
        time.sleep(pauses.get((len(calls) - 2) % 5, 0))

    times = turns.in_turns({"A": program}, seconds=60, calls=3, lead=2, warm_up=1, most=3)["A"]
    assert len(calls) == 1 + 3 * 5
    assert len(times) == 3
    assert all(10 <= milliseconds < 60 for milliseconds in times)


def test_a_summary_is_median_and_range_to_four_digits() -> None:
    values = [3.141592, 1234.567, 0.01234567, 2.0]
    expected = {"median": np.median(values), "min": np.min(values), "max": np.max(values)}
    found = turns.summary(values)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=5e-4)
    assert found["max"] == 1235.0


def test_a_ratio_is_taken_in_each_round() -> None:
    times = {"A": [1.0, 10.0, 6.0, 8.0], "B": [2.0, 1.0, 3.0, 1.0]}
    ratios = np.divide(times["A"], times["B"])
    assert np.median(ratios) != np.median(times["A"]) / np.median(times["B"])
    expected = {"median": np.median(ratios), "min": ratios.min(), "max": ratios.max()}
    assert turns.ratio(times, "A", "B") == expected


# Tables


def test_each_row_is_on_disk_before_the_next_is_measured(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "new" / "some.json"

    def rows() -> Iterator[tables.Row]:
        yield {"n": 1}
        assert json.loads(file.read_text()) == {**FACTS, "rows": [{"n": 1}]}
        yield {"n": 2}
        raise RuntimeError("the third row")

    seen = []
    with pytest.raises(RuntimeError, match="the third row"):
        seen.extend(tables.record(FACTS, rows(), file))
    assert json.loads(file.read_text()) == {**FACTS, "rows": [{"n": 1}, {"n": 2}]}


def test_the_head_says_what_was_measured_on_what_with_which_versions() -> None:
    facts = tables.head("some", "Some figures")
    assert facts["benchmark"] == "some"
    assert facts["title"] == "Some figures"
    assert facts["command"] == "python -m benchmarks some"
    assert " cores, " in facts["machine"]
    assert facts["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["versions"]["numpy"] == np.__version__
    assert {"tensorflow", "keras"} <= facts["versions"].keys()
    caption = tables.caption(facts)
    for part in (facts["machine"], facts["date"], f"numpy {np.__version__}"):
        assert part in caption


@pytest.mark.parametrize(
    "file",
    sorted(command.RESULTS.rglob("*.json")),
    ids=lambda file: str(file.relative_to(command.RESULTS)),
)
def test_the_document_shows_what_was_measured(file: pathlib.Path) -> None:
    results = json.loads(file.read_text())
    document = command.RESULTS.with_name("README.md").read_text()
    for shown in (results["title"], tables.caption(results), tables.markdown(results)):
        assert shown in document


# The command


def run_quickly(name: str, folder: pathlib.Path) -> dict:
    """The only row of a quick run, which is printed and written."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", f"--out={folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((folder / f"{name}.json").read_text())
    assert tables.markdown(results) in process.stdout
    assert results["title"] in process.stdout
    (row,) = results["rows"]
    return row


def test_mixing_is_timed_against_its_peers(tmp_path: pathlib.Path) -> None:
    for package in ("torch", "keras_cv"):
        pytest.importorskip(package)
    row = run_quickly("mixing", tmp_path)
    for program in ("ours", "Keras", "KerasCV", "PyTorch", "memcpy"):
        assert 0 < row[f"{program}, ms"]["min"] <= row[f"{program}, ms"]["median"]
    assert row["n"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export", "start", "saving", "memory"])
def test_a_program_measures_what_it_is_called_after(name: str, tmp_path: pathlib.Path) -> None:
    if name == "export":
        pytest.importorskip("torch")
    row = run_quickly(name, tmp_path)
    times = [value["median"] for value in row.values() if isinstance(value, dict)]
    assert all(value > 0 for value in times)
    if name == "start":
        for program in ("ours", "Keras"):
            stages = ("imported", "built", "first step")
            seconds = [row[f"{program}: {stage}, s"]["median"] for stage in stages]
            assert 0 < seconds[0] < seconds[1] < seconds[2]


@pytest.mark.slow
def test_a_run_survives_every_fault(tmp_path: pathlib.Path) -> None:
    command.main(["faults", "--quick", f"--out={tmp_path}"])
    results = json.loads((tmp_path / "faults.json").read_text())
    assert [row["fault"] for row in results["rows"]] == list(faults.KINDS)
    for row in results["rows"]:
        assert (row["fault"], row["survived"]) == (row["fault"], row["tried"])
        assert row["tried"] == 1
