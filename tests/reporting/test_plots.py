"""Plots: SVG that stands alone, with every run in it."""

import dataclasses
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from tests.run_folders import make_runs
from tf_cutnmix.reporting import pages, plots
from tf_cutnmix.reporting.groups import Group, collect

SVG = "{http://www.w3.org/2000/svg}"


def collected(folder: pathlib.Path, *contents: dict[str, Any]) -> list[Group]:
    return collect(make_runs(folder, *contents)).groups


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


def drawn(svg: str, colour: str) -> int:
    """How many marks of a line there are in a colour."""
    uses = re.findall(r"<use [^>]*>", svg)
    return sum(f"{colour})" in use and "fill-opacity" in use for use in uses)


def test_letters_that_matplotlib_does_not_have_are_the_readers_to_show() -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "\N{CJK UNIFIED IDEOGRAPH-4EBA}")
    assert texts(plots.svg(figure)) == ["\N{CJK UNIFIED IDEOGRAPH-4EBA}"]


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colour", plots.COLOURS)
@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_lines_stand_out_from_a_light_and_a_dark_page(colour: str, paper: str) -> None:
    assert f"--paper: {paper.replace('ffffff', 'fff')};" in pages.page("title", [])
    dark, light = sorted(luminance(c) for c in (colour, paper))
    assert (light + 0.05) / (dark + 0.05) > 3


@pytest.fixture
def three(tmp_path: pathlib.Path) -> list[Group]:
    contents = [
        {"method": method, "mix": mix, "seed": seed, "teacher": accuracy + 0.01 * seed}
        for method, mix, accuracy in [
            ("independent", "cutmix", 0.6),
            ("independent", "none", 0.4),
            ("cutnmix", "cutnmix", 0.5),
        ]
        for seed in range(3)
    ]
    return collected(tmp_path, *contents)


def test_groups_are_sorted_by_their_teachers(three: list[Group]) -> None:
    names = {group.name for group in three}
    shown = [text for text in texts(plots.accuracies(three)) if text in names]
    assert shown == ["independent + none", "cutnmix + cutnmix", "independent + cutmix"]


@pytest.mark.parametrize("plot", [plots.accuracies, plots.curves])
def test_long_names_of_many_groups_leave_room(three: list[Group], plot: Callable) -> None:
    settings = "settings " * 20
    many = [dataclasses.replace(g, name=f"{settings}{k}") for k, g in enumerate(three * 15)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, where the axes have collapsed
        svg = plot(many)
    lines = re.findall(r'translate\(([-.\d]+) [-.\d]+\)">[^<]*setting', svg)
    assert len(lines) > len(many)
    assert min(map(float, lines)) >= 0


def test_every_run_is_a_dot(three: list[Group]) -> None:
    svg = plots.accuracies(three)
    legend = 1
    assert drawn(svg, "#0b5fa5") == 9 + legend
    assert drawn(svg, "#d9822b") == 9 + legend


def test_curves_have_a_line_for_each_group_and_a_band_over_seeds(three: list[Group]) -> None:
    svg = plots.curves(three)
    assert {group.name for group in three} <= set(texts(svg))
    assert svg.count("PolyCollection") == 9
    single = plots.curves([three[0]])
    assert single.count("PolyCollection") == 3


def test_one_seed_has_no_band(tmp_path: pathlib.Path) -> None:
    svg = plots.curves(collected(tmp_path, {"seed": 0}))
    assert "PolyCollection" not in svg
    assert "independent + cutmix" in texts(svg)


def test_a_figure_that_was_not_recorded_is_said(tmp_path: pathlib.Path) -> None:
    groups = collected(tmp_path, {})
    assert "not recorded" not in texts(plots.curves(groups))
    groups[0].runs[0].curves["val_teacher_accuracy"].clear()
    assert texts(plots.curves(groups)).count("not recorded") == 1


def test_a_curve_ends_where_the_first_of_its_runs_ends(tmp_path: pathlib.Path) -> None:
    groups = collected(tmp_path, {"seed": 0}, {"seed": 1})
    for curve in groups[0].runs[1].curves.values():
        del curve[2]
    assert "2" not in texts(plots.curves(groups))


def test_colours_are_those_of_a_page_that_is_light_or_dark(three: list[Group]) -> None:
    for svg in (plots.accuracies(three), plots.curves(three)):
        assert "fill: currentColor" in svg
        assert "var(--rule, #e6e6e6)" in svg
        assert "#1b1b1b" not in svg
        assert "fill: #ffffff" not in svg


def test_a_plot_is_the_same_in_every_call(three: list[Group]) -> None:
    assert plots.accuracies(three) == plots.accuracies(three)
    assert plots.curves(three) == plots.curves(three)


def test_a_name_is_text_and_no_formula(tmp_path: pathlib.Path) -> None:
    dataset = "/data/$x_1$ <&>"
    groups = collected(tmp_path, {"dataset": dataset}, {"dataset": "digits"})
    for plot in (plots.accuracies, plots.curves):
        assert f"dataset={dataset}" in texts(plot(groups))


def test_an_svg_is_one_element_and_names_no_time(three: list[Group]) -> None:
    svg = plots.accuracies(three)
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert "<metadata" not in svg
    assert "<!DOCTYPE" not in svg
