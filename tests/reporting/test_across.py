"""Accuracy across one setting: which groups are on a line, where, and how high."""

import math

import numpy as np
import pytest

from tests.reporting.test_plots import texts
from tests.run_folders import make_groups
from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting import plots, tables
from tf_cutnmix.reporting.comparison import Across, across

SIZES = (500, 50, 2500)
OURS = {"method": "cutnmix", "mix": "cutnmix"}


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Across:
    """Two methods on three numbers of images; the last number has one seed of ours."""
    contents = [
        {
            **method,
            **{"train_split": f"train[:{size}]", "result": {"counts": {"train": [size - 9, 9]}}},
            **{"seed": seed, "teacher": 0.001 * rank + 0.01 * seed},
        }
        for method in ({}, OURS)
        for rank, size in enumerate(SIZES)
        for seed in range(1 if method and size == 2500 else 3)
    ]
    return across(make_groups(tmp_path_factory.mktemp("runs"), *contents), "train_split")


def lines(found: Across) -> dict[str, list[str]]:
    """The values on each line."""
    return {line: [*own] for line, own in found.points.groupby("line", sort=False)["value"]}


def test_runs_that_differ_in_the_setting_alone_are_on_a_line_in_order(sizes):
    values = ["train[:50]", "train[:500]", "train[:2500]"]
    assert lines(sizes) == {"independent + cutmix": values, "cutnmix": values}
    assert [*sizes.points["place"]] == [50, 500, 2500] * 2
    assert not sizes.short


def test_a_row_is_mean_and_interval_by_student(sizes):
    table = tables.across(sizes)
    assert [*table.cells][:3] == ["Group", "train_split", "Seeds"]
    # 0.1, 1.1, 2.1 percent: t(0.975, 2) = 4.3027 of a printed table, and the deviation is 1.
    half = 4.3027 / math.sqrt(3)
    first, *_, last = table.cells.itertuples(index=False, name=None)
    assert first == (
        *("independent + cutmix", "train[:50] (50 images)", "3"),
        *("1.10", f"[{1.1 - half:.2f}, {1.1 + half:.2f}]"),
        *("50.00", "no spread"),
    )
    assert last[1:5] == ("train[:2500] (2,500 images)", "1", "0.20", "too few seeds")
    assert "95 % interval of the mean by Student's t" in table.notes[0]


def test_a_plot_has_the_means_of_each_line_with_their_intervals(sizes):
    panels = plots.across.__wrapped__(sizes).axes
    assert [axes.get_title().split(":")[0] for axes in panels] == ["Teacher", "Mean peer"]
    half = 4.3027 / math.sqrt(3)
    for axes, means in zip(panels, ([1.1, 1.0, 1.2], [50, 50, 50]), strict=True):
        plain, ours = axes.containers
        np.testing.assert_allclose(
            np.c_[plain.lines[0].get_data(orig=False)], np.c_[[50, 500, 2500], means]
        )
        np.testing.assert_allclose(ours.lines[0].get_xdata(orig=False), [50, 500, 2500])
    bars = [np.ptp(bar[:, 1]) / 2 for bar in panels[0].containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [half] * 3, atol=1e-4)
    (*_, alone) = panels[0].containers[1].lines[2][0].get_segments()
    assert alone.size == 0
    shown = {"independent + cutmix", "cutnmix", "images (train_split)", "2,500"}
    assert shown <= set(texts(plots.across(sizes)))


@pytest.mark.parametrize(
    ("setting", "values", "ordered", "numeric"),
    [
        ("epochs", (9, 10, 2), [2, 9, 10], True),
        ("arch", ("resnet14", "resnet8", "resnet110"), ["resnet8", "resnet14", "resnet110"], False),
        ("temperature", (3.0, None, 1.0), [1.0, 3.0, None], False),
        # What was not counted says nothing of its images.
        (
            "train_split",
            ("train", "train[:9]", "train[:1]"),
            ["train", "train[:1]", "train[:9]"],
            0,
        ),
    ],
)
def test_numbers_are_where_they_are_and_names_in_order(setting, values, ordered, numeric, tmp_path):
    contents = [{setting: value} for value in values]
    found = across(make_groups(tmp_path, *contents), setting)
    assert [*lines(found).values()] == [[*map(str, ordered)]]
    assert [*found.points["place"]] == (ordered if numeric else [0, 1, 2])
    plots.across(found)


def test_the_steps_follow_from_the_setting_and_make_no_line_of_their_own(tmp_path):
    groups = make_groups(tmp_path, *({"epochs": n} for n in (2, 4, 8)))
    for group, steps in zip(groups, (20, 40, 80), strict=True):
        group.settings["steps trained"] = steps
    assert len(lines(across(groups, "epochs"))) == 1


def test_what_has_no_meaning_for_one_value_counts_as_the_default(tmp_path):
    contents = [{**OURS, "mix": mix} for mix in ("none", "cutmix", "cutnmix")]
    contents += [{**OURS, "mix": "cutnmix", "regions": "spread"}]
    found = across(make_groups(tmp_path, *contents), "mix")
    assert [*lines(found).values()] == [["cutmix", "cutnmix", "none"]]
    assert len(found.short) == 1
    assert "regions=spread" in found.short[0]


@pytest.mark.parametrize(
    ("setting", "contents", "words"),
    [
        ("epoch", [{}], "unknown setting in --across 'epoch': did you mean 'epochs'?"),
        ("seed", [{}], "unknown setting in --across 'seed'"),
        ("epochs", [{"epochs": n} for n in (2, 8)], "the runs have 2 of the 3 values or more"),
        (
            "epochs",
            [{"epochs": n, "alpha": float(n)} for n in (2, 4, 8)],
            "no 3 values of it are in runs that are equal otherwise: they differ in alpha too",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(setting, contents, words, tmp_path):
    with pytest.raises(InputError) as caught:
        across(make_groups(tmp_path, *contents), setting)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
