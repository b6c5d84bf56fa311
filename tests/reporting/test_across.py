"""Accuracy across one setting: which groups are on a line, where, and how high."""

import math
import pathlib
from typing import Any

import numpy as np
import pytest

from tests.reporting.test_plots import texts
from tests.run_folders import make_runs
from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting import across, documents
from tf_cutnmix.reporting.across import Across
from tf_cutnmix.reporting.groups import Group, choose_baseline, collect

SIZES = (500, 50, 2500)
OURS = {"method": "cutnmix", "mix": "cutnmix"}


def images(count: int) -> dict[str, Any]:
    return {
        "train_split": f"train[:{count}]",
        "result": {"counts": {"train": [count // 2, count - count // 2]}},
    }


def groups_of(folder: pathlib.Path, *contents: dict[str, Any]) -> list[Group]:
    return collect(make_runs(folder, *contents)).groups


@pytest.fixture
def sizes(tmp_path: pathlib.Path) -> list[Group]:
    """Two methods on three numbers of images; the last number has one seed of ours."""
    contents = [
        {**method, **images(size), "seed": seed, "teacher": 0.001 * rank + 0.01 * seed}
        for method in ({}, OURS)
        for rank, size in enumerate(SIZES)
        for seed in range(1 if method and size == 2500 else 3)
    ]
    return groups_of(tmp_path, *contents)


def of(found: Across, name: str) -> list[Any]:
    return [group.settings[found.setting] for group in found.lines[name]]


def test_runs_that_differ_in_the_setting_alone_are_on_a_line_in_order(sizes):
    found = across.across(sizes, "train_split")
    assert list(found.lines) == ["independent + cutmix", "cutnmix + cutnmix"]
    for name in found.lines:
        assert of(found, name) == ["train[:50]", "train[:500]", "train[:2500]"]
    assert found.places == {"train[:50]": 50, "train[:500]": 500, "train[:2500]": 2500}
    assert found.numeric
    assert not found.short


def test_a_row_is_mean_and_interval_by_student(sizes):
    table = across.table(across.across(sizes, "train_split"))
    assert table.header[:3] == ("Group", "train_split", "Seeds")
    # 0.1, 1.1, 2.1 percent: t(0.975, 2) = 4.3027 of a printed table, and the deviation is 1.
    half = 4.3027 / math.sqrt(3)
    assert table.rows[0] == (
        *("independent + cutmix", "train[:50] (50 images)", "3"),
        *("1.10", f"[{1.1 - half:.2f}, {1.1 + half:.2f}]"),
        *("50.00", "[50.00, 50.00]"),
    )
    assert table.rows[-1][1:5] == ("train[:2500] (2,500 images)", "1", "0.20", "too few seeds")
    assert "95 % interval of the mean by Student's t" in table.notes[0]


def test_a_plot_has_the_means_of_each_line_with_their_intervals(sizes, monkeypatch):
    monkeypatch.setattr(across, "svg", lambda figure: figure)
    panels = across.plot(across.across(sizes, "train_split")).axes
    assert [axes.get_title("left").split(":")[0] for axes in panels] == ["Teacher", "Mean peer"]
    half = 4.3027 / math.sqrt(3)
    for axes, means in zip(panels, ([1.1, 1.0, 1.2], [50, 50, 50]), strict=True):
        plain, ours = axes.containers
        np.testing.assert_allclose(
            np.c_[plain.lines[0].get_data(orig=False)], np.c_[[50, 500, 2500], means]
        )
        np.testing.assert_allclose(ours.lines[0].get_xdata(orig=False), [50, 500, 2500])
        bars = [np.ptp(bar[:, 1]) / 2 for bar in plain.lines[2][0].get_segments()]
        np.testing.assert_allclose(bars, [half if axes is panels[0] else 0] * 3, atol=1e-4)
    (*_, alone) = panels[0].containers[1].lines[2][0].get_segments()
    assert alone.size == 0


def test_a_plot_is_text_in_the_colours_of_its_page(sizes):
    svg = across.plot(across.across(sizes, "train_split"))
    expected = {"independent + cutmix", "cutnmix + cutnmix", "images (train_split)", "2,500"}
    assert expected <= set(texts(svg))
    assert svg == across.plot(across.across(sizes, "train_split"))
    assert "fill: currentColor" in svg


@pytest.mark.parametrize(
    ("setting", "values", "ordered", "numeric"),
    [
        ("epochs", (9, 10, 2), [2, 9, 10], True),
        ("alpha", (0.5, 2.0, 1.0), [0.5, 1.0, 2.0], True),
        ("arch", ("resnet14", "resnet8", "resnet110"), ["resnet8", "resnet14", "resnet110"], False),
        ("temperature", (3.0, None, 1.0), [1.0, 3.0, None], False),
        ("share", ("none", "stem", "auto"), ["auto", "none", "stem"], False),
    ],
)
def test_numbers_are_where_they_are_and_names_in_order(setting, values, ordered, numeric, tmp_path):
    contents = [{setting: value} for value in values]
    found = across.across(groups_of(tmp_path, *contents), setting)
    assert list(found.places) == ordered
    assert found.numeric == numeric
    assert list(found.places.values()) == (ordered if numeric else [0, 1, 2])
    (name,) = found.lines
    assert of(found, name) == ordered
    across.plot(found)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train[:1000]", "train[500:1000]", "train[:250]"), [250, 500, 1000]),
        (("train[:10%]", "train", "train[:1000]"), [0, 1, 2]),
    ],
)
def test_a_split_that_was_not_counted_may_say_itself_what_it_holds(splits, expected, tmp_path):
    found = across.across(groups_of(tmp_path, *({"train_split": s} for s in splits)), "train_split")
    assert list(found.places.values()) == expected


def test_the_steps_follow_from_the_setting_and_make_no_line_of_their_own(tmp_path):
    contents = [{"epochs": n} for n in (2, 4, 8)]
    groups = groups_of(tmp_path, *contents)
    for group, steps in zip(groups, (20, 40, 80), strict=True):
        group.circumstances["steps trained"] = steps
    assert len(across.across(groups, "epochs").lines) == 1


def test_what_has_no_meaning_for_one_value_counts_as_the_default(tmp_path):
    contents = [{**OURS, "mix": mix} for mix in ("none", "cutmix", "cutnmix")]
    contents += [{**OURS, "mix": "cutnmix", "regions": "spread"}]
    found = across.across(groups_of(tmp_path, *contents), "mix")
    assert [of(found, name) for name in found.lines] == [["cutmix", "cutnmix", "none"]]
    assert len(found.short) == 1
    assert "regions=spread" in found.short[0]


def test_what_differs_in_more_is_another_line_or_told_to_be_too_short(tmp_path):
    contents = [{"epochs": n, "seed": s} for n in (2, 4, 8) for s in (0, 1)]
    contents += [{**OURS, "epochs": n} for n in (2, 4)]
    found = across.across(groups_of(tmp_path, *contents), "epochs")
    assert list(found.lines) == ["independent + cutmix"]
    assert across.warnings(found) == [
        "not drawn across epochs: cutnmix + cutnmix, which has fewer than 3 values of it"
    ]


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
        across.across(groups_of(tmp_path, *contents), setting)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_that_are_equal_but_for_their_steps_are_not_mixed(tmp_path):
    groups = groups_of(tmp_path, *({"epochs": n} for n in (2, 4, 8)))
    with pytest.raises(InputError, match="equal but for the steps that they trained"):
        across.across([*groups, groups[0]], "epochs")


def test_a_report_holds_the_table_and_on_its_page_the_plot(sizes):
    found = across.across(sizes, "train_split")
    baselines = {group.name: choose_baseline(group, sizes) for group in sizes}
    plain, along = (
        documents.compose(sizes, baselines, [], found=len(sizes), along=one)
        for one in (None, found)
    )
    title = "Test accuracy at the best epoch across train_split"
    assert f"## {title}" in documents.markdown(along)
    page = documents.page(along)
    assert page.count(f"<h2>{title}</h2>") == 2
    assert "compared although they do" in page
    assert len(along.plots) == len(plain.plots) + 1
    assert title not in documents.markdown(plain) + documents.page(plain)
