"""Plots: SVG that stands alone, with every run in it."""

import pathlib
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from tests.run_folders import make_groups
from tf_cutnmix.reporting import plots
from tf_cutnmix.reporting.comparison import Group

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


def drawn(svg: str, colour: str) -> int:
    """How many marks of a line there are in a colour."""
    uses = re.findall(r"<use [^>]*>", svg)
    return sum(f"{colour})" in use and "fill-opacity" in use for use in uses)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Group]:
    contents = [
        {"method": method, "mix": mix, "seed": seed, "teacher": accuracy + 0.01 * seed}
        for method, mix, accuracy in [
            ("independent", "cutmix", 0.6),
            ("independent", "none", 0.4),
            ("cutnmix", "cutnmix", 0.5),
        ]
        for seed in range(3)
    ]
    return make_groups(tmp_path_factory.mktemp("runs"), *contents)


def test_groups_are_sorted_by_their_teachers(three: list[Group]) -> None:
    names = {group.name for group in three}
    shown = [text for text in texts(plots.accuracies(three)) if text in names]
    assert shown == ["independent + none", "cutnmix", "independent + cutmix"]


def test_every_run_is_a_dot(three: list[Group]) -> None:
    svg = plots.accuracies(three)
    legend = 1
    assert drawn(svg, "#0b5fa5") == 9 + legend
    assert drawn(svg, "#d9822b") == 9 + legend


def test_curves_have_a_line_for_each_group_and_a_band_over_seeds(three: list[Group]) -> None:
    svg = plots.curves(three)
    assert {group.name for group in three} <= set(texts(svg))
    assert svg.count("PolyCollection") == 9


def test_one_seed_has_no_band_and_a_figure_that_was_not_recorded_is_said(tmp_path) -> None:
    groups = make_groups(tmp_path, {})
    svg = plots.curves(groups)
    assert "PolyCollection" not in svg
    assert "not recorded" not in texts(svg)
    groups[0].runs[0].curves["val_teacher_accuracy"] = float("nan")
    assert texts(plots.curves(groups)).count("not recorded") == 1


def test_a_curve_ends_where_the_first_of_its_runs_ends(tmp_path: pathlib.Path) -> None:
    groups = make_groups(tmp_path, {"seed": 0}, {"seed": 1})
    runs = groups[0].runs
    runs[1] = runs[1]._replace(curves=runs[1].curves.drop(index=2))
    assert "2" not in texts(plots.curves(groups))


def test_a_plot_is_one_element_in_the_colours_of_its_page_and_the_same_each_time(three) -> None:
    for plot in (plots.accuracies, plots.curves):
        svg = plot(three)
        assert svg == plot(three)
        assert svg.startswith("<svg")
        assert svg.rstrip().endswith("</svg>")
        assert "fill: currentColor" in svg
        assert "var(--rule, #e6e6e6)" in svg
        for absent in ("#1b1b1b", "fill: #ffffff", "<metadata", "<!DOCTYPE"):
            assert absent not in svg


def test_a_name_is_text_and_no_formula(tmp_path: pathlib.Path) -> None:
    dataset = "/data/$x_1$ <&>"
    groups = make_groups(tmp_path, {"dataset": dataset}, {"dataset": "digits"})
    for plot in (plots.accuracies, plots.curves):
        assert f"dataset={dataset}" in texts(plot(groups))


# Of one run


def test_a_curve_marks_the_best_epoch_and_one_epoch_is_a_dot() -> None:
    lines = {
        "teacher": pd.Series({1: 10.0, 2: 30.0, 3: 20.0}),
        "peer1": pd.Series({1: 5.0, 2: 6.0, 3: 7.0}),
    }
    marked = plots.curve("Accuracy", lines, 2)
    assert {"Accuracy", "epoch", "teacher", "peer1"} <= set(texts(marked))
    assert "stroke-dasharray" in marked
    assert "stroke-dasharray" not in plots.curve("Accuracy", lines, 9)
    one = plots.curve("x", {"x": pd.Series({1: 1.0})}, 9)
    assert "<use" in re.sub(r"<defs>.*?</defs>", "", one)


def test_few_classes_are_counted_and_named_many_are_shades_and_more_have_no_names() -> None:
    shown = texts(plots.confusion(np.array([[41, 7], [0, 52]]), ("$cat$", "<dog>\n")))
    assert {"41", "85%", "7", "15%", "52", "100%", "$cat$", r"<dog>\n"} <= set(shown)
    assert "share of the true class (%)" in shown
    assert "0%" not in shown
    assert shown.count("$cat$") == 2
    for classes in (20, 60):
        names = [f"class {k}" for k in range(classes)]
        svg = plots.confusion(1000 + np.arange(classes**2).reshape(classes, classes), names)
        assert ("class 7" in texts(svg)) == (classes == 20)
        assert "1000" not in texts(svg)


def test_calibration_draws_what_was_said_and_what_is_right() -> None:
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.45, 0.55], [np.nan, 1.0]])
    labels = np.array([0, 1, 1, 0])
    for times, bins, places in ((50, 10, [[55, 96], [100, 50]]), (1, 1, [[247 / 3], [200 / 3]])):
        drawn = plots.calibration.__wrapped__(
            np.tile(probabilities, (times, 1)), np.tile(labels, times)
        )
        above, below = drawn.axes
        np.testing.assert_allclose(above.lines[1].get_data(), places)
        assert len(below.patches) == bins
    assert above.get_ylabel() == "accuracy (%)"
    # Two of three, Wilson.
    ends = above.containers[0].lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(ends, [20.77, 93.85], atol=0.01)


@pytest.mark.parametrize(("last", "widened"), [(99.5, True), (60.0, False)])
def test_accuracies_near_100_have_room(last: float, widened: bool) -> None:
    lines = {"teacher": pd.Series({1: 20.0, 2: last})}
    (axes,) = plots.curve.__wrapped__("x", lines, 1, True).axes
    place = axes.transData.transform([[1, y] for y in (90, 98, 100)])[:, 1]
    assert (place[2] - place[1] > 0.5 * (place[1] - place[0])) == widened
