"""Tables: every number can be checked by hand."""

import pathlib
from typing import Any

import pandas as pd
import pytest

from tests.run_folders import make_groups
from tf_cutnmix.reporting import tables
from tf_cutnmix.reporting.comparison import Baseline, Group, choose_baseline
from tf_cutnmix.reporting.tables import Table


def baselines(groups: list[Group]) -> dict[str, Baseline]:
    return {group.name: choose_baseline(group, groups) for group in groups}


def cell(table: Table, row: int, column: str) -> str:
    return table.cells[column].iloc[row]


def rows(table: Table) -> list[tuple[str, ...]]:
    return [*table.cells.itertuples(index=False, name=None)]


def seeds(method: str, *teachers: float, **content: Any) -> list[dict[str, Any]]:
    return [
        {"method": method, "seed": seed, "teacher": value, **content}
        for seed, value in enumerate(teachers)
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Group]:
    """Teachers 50, 52, 54 % and 51, 54, 57 %: deviations 2 and 3, differences 1, 2, 3."""
    ours = seeds("cutnmix", 0.51, 0.54, 0.57, peers=(0.5, 0.7))
    contents = [*seeds("independent", 0.50, 0.52, 0.54), *ours]
    return make_groups(tmp_path_factory.mktemp("runs"), *contents)


def test_accuracies_are_mean_and_deviation_in_percent(two: list[Group]) -> None:
    table = tables.accuracy(two, "best")
    header = ["Group", "Seeds", "Teacher", "Ensemble", "Mean peer", "Best peer"]
    assert [*table.cells] == header
    assert rows(table) == [
        ("independent", "3", "52.00 ± 2.00", "70.00 ± 0.00", "50.00 ± 0.00", "60.00 ± 0.00"),
        ("cutnmix", "3", "54.00 ± 3.00", "70.00 ± 0.00", "60.00 ± 0.00", "70.00 ± 0.00"),
    ]
    last = tables.accuracy(two, "last")
    assert "last epoch" in last.title
    assert cell(last, 0, "Teacher") == "25.00 ± 0.00"


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({}, False),
        ({"validation_fraction": 0.0}, True),
        ({"validation_fraction": 0.0, "validation_split": "test[:9]"}, False),
        ({"validation_fraction": 0.0, "result": {"validation_split": "validation"}}, False),
    ],
)
def test_a_missing_validation_split_is_noted_and_one_seed_has_no_deviation(
    settings, noted, tmp_path
) -> None:
    table = tables.accuracy(make_groups(tmp_path, *seeds("independent", 0.5, **settings)), "best")
    assert cell(table, 0, "Teacher") == "50.00"
    assert ("Without a validation split the last epoch" in table.notes[0]) == noted


def test_a_leader_is_shown_where_there_is_one(tmp_path: pathlib.Path) -> None:
    contents = [
        {"method": "independent", "mix": "none", "result": {"leader": None}},
        {"method": "cutnmix", "mix": "none", "result": {"leader": "peer2"}},
        {"method": "cutnmix", "mix": "mixup"},
    ]
    cells = tables.accuracy(make_groups(tmp_path / "x", *contents), "best").cells
    assert [*cells["Leader"]] == ["—", "—", "60.00"]
    cells = tables.accuracy(make_groups(tmp_path / "y", {"mix": "none"}), "best").cells
    assert "Leader" not in cells


def test_differences_are_paired_in_percentage_points(two: list[Group]) -> None:
    table = tables.differences(two, baselines(two))
    # t(0.975, 2) = 4.303, deviation 1: 2 +- 2.48, so no star. Mean peers differ by 10.
    expected = ("cutnmix", "independent", "3", "+2.00", "[-0.48, +4.48]")
    assert rows(table) == [(*expected, "+10.00", "no spread")]
    assert [*table.cells][-4:] == [
        "Teacher",
        "Teacher, 95 % interval",
        "Mean peer",
        "Mean peer, 95 % interval",
    ]
    notes = " ".join(table.notes)
    assert "Student's t" in notes
    assert "corrected by Holm for the 1 differences of this table: 0." in notes


def test_a_star_is_for_the_whole_table(tmp_path: pathlib.Path) -> None:
    """p = 0.018 has a star alone and none among three differences, of which two are tested."""
    pair = [*seeds("independent", *[0.5] * 4), *seeds("dml", 0.53, 0.515, 0.54, 0.52)]
    others = [*seeds("one", 0.6, 0.4, 0.5, 0.51), *seeds("kdcl", 0.5, 0.4, 0.5, 0.6)]
    for place, contents, shown in (("a", pair, "+2.63 *"), ("b", [*pair, *others], "+2.63")):
        groups = make_groups(tmp_path / place, *contents)
        table = tables.differences(groups, baselines(groups))
        (found,) = table.cells["Teacher"][table.cells["Group"] == "dml"]
        assert found == shown


def test_what_is_not_comparable_has_no_difference(tmp_path: pathlib.Path) -> None:
    contents = [*seeds("independent", 0.5), *seeds("cutnmix", 0.6)]
    groups = make_groups(tmp_path, *contents, *seeds("cutnmix", 0.9, epochs=9))
    table = tables.differences(groups, baselines(groups))
    assert [row[1:4] for row in rows(table)] == [
        ("1", "independent, epochs=2", "1"),
        ("2", "not comparable", "—"),
    ]
    assert rows(table)[1][4:] == ("—",) * 4
    costs = tables.cost(groups, baselines(groups))
    assert cell(costs, 2, "Time / baseline") == "not comparable"


def test_calibration_and_diversity_are_means(tmp_path: pathlib.Path) -> None:
    contents = [
        {
            "seed": seed,
            "mix": "cutnmix",
            "test": {
                "teacher_calibration_error": value,
                "ensemble_calibration_error": 2 * value,
                "peer1_calibration_error": value,
                "peer2_calibration_error": 3 * value,
                "disagreement": value,
                "distance": value,
                "scaled": {
                    "teacher": {
                        "temperature": 1.0,
                        "negative_log_likelihood": value,
                        "calibration_error": value / 10,
                    }
                },
            },
            "row": {"region_overlap": value},
        }
        for seed, value in enumerate((0.1, 0.3))
    ]
    (row,) = rows(tables.calibration(make_groups(tmp_path, *contents)))
    figures = ("20.00 %", "40.00 %", "40.00 %", "1.250")
    calibrated = ("2.00 %", "0.200")
    assert row[1:] == (*figures, *calibrated, "20.00 %", "0.200", "20.00 %")


def test_what_no_run_recorded_is_never_zero(tmp_path: pathlib.Path) -> None:
    groups = make_groups(tmp_path / "some", {"seed": 0}, {"seed": 1, "test": {"distance": 0.5}})
    assert cell(tables.calibration(groups), 0, "Distance") == "0.500 (1 of 2 seeds)"
    groups = make_groups(tmp_path / "none", {"mix": "cutnmix"})
    table = tables.calibration(groups)
    unknown = ("Teacher ECE", "Ensemble ECE", "Mean peer ECE", "Disagreement", "Region overlap")
    assert {cell(table, 0, name) for name in unknown} == {"—"}
    base = {groups[0].name: Baseline(groups[0], "baseline")}
    table = tables.cost(groups, base)
    unknown = ("Trained parameters", "MFLOPs/image", "Peak memory", "Memory / baseline")
    assert {cell(table, 0, name) for name in unknown} == {"—"}


def test_costs_are_means_and_multiples_of_the_baseline(tmp_path: pathlib.Path) -> None:
    def result(factor: float) -> dict[str, float]:
        return {
            "wall_seconds": 1000 * factor,
            "peak_memory_bytes": 2**30 * factor,
            "trained_parameters": 5000,
            "flops_per_image": 1.5e9 * factor,
        }

    contents = [
        {"method": "independent", "result": result(1)},
        {"method": "cutnmix", "seed": 0, "result": result(1)},
        {"method": "cutnmix", "seed": 1, "result": result(2)},
    ]
    groups = make_groups(tmp_path, *contents)
    base, ours = rows(tables.cost(groups, baselines(groups)))
    assert base[1:] == ("200", "5,000", "1,500.0", "1,024 MiB", "1,000 s", "1.00", "1.00")
    assert ours[1:] == ("200", "5,000", "2,250.0", "1,536 MiB", "1,500 s", "1.50", "1.50")


def test_settings_are_shown_where_they_differ(two: list[Group]) -> None:
    assert rows(tables.settings(two)) == [("independent", "independent"), ("cutnmix", "cutnmix")]
    assert tables.settings(two[:1]) is None


# Forms


TABLE = Table(
    "Title",
    pd.DataFrame([["a<b", "1.00"], ["a|b\n", "22.00"]], columns=["Group", "A | B"]),
    ("A & B.",),
)


def test_markdown_has_aligned_columns_and_no_stray_bars() -> None:
    assert TABLE.markdown() == (
        "| Group   |   A \\| B |\n"
        "|:--------|---------:|\n"
        "| a\\<b    |     1.00 |\n"
        "| a\\|b\\\\n |    22.00 |\n"
        "\n"
        "A & B.\n"
    )


def test_html_is_escaped_and_whole() -> None:
    long = "x" * 300
    text = Table("Title", TABLE.cells.replace("1.00", long)).html()
    assert "<td>a&lt;b</td>" in text
    assert r"<td>a|b\n</td>" in text
    assert f"<td>{long}</td>" in text
    assert "<th>Group</th>" in text


def test_balanced_accuracy_stands_beside_accuracy_where_classes_are_unbalanced(
    tmp_path: pathlib.Path,
) -> None:
    test = {"teacher_balanced_accuracy": 0.375}
    for counts, shown in (([9, 1], ["37.50"]), ([5, 5], [])):
        content = {"test": test, "result": {"counts": {"test": counts}}}
        cells = tables.accuracy(make_groups(tmp_path / str(counts), content), "best").cells
        assert [*cells.get("Teacher, balanced", [])] == shown
