"""The diagrams of a run: SVG with the figures that were passed."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tf_cutnmix.reporting import diagrams

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


def test_a_curve_marks_the_best_epoch() -> None:
    lines = {"teacher": {1: 10.0, 2: 30.0, 3: 20.0}, "peer1": {1: 5.0, 2: 6.0, 3: 7.0}}
    marked = diagrams.curve("Accuracy", lines, 2)
    assert {"Accuracy", "epoch", "teacher", "peer1"} <= set(texts(marked))
    assert "stroke-dasharray" in marked
    assert "stroke-dasharray" not in diagrams.curve("Accuracy", lines, None)
    assert "stroke-dasharray" not in diagrams.curve("Accuracy", lines, 9)


def test_a_run_of_one_epoch_is_a_dot() -> None:
    assert "<use" in re.sub(r"<defs>.*?</defs>", "", diagrams.curve("x", {"x": {1: 1.0}}, None))


def test_few_classes_are_counted_and_named() -> None:
    counts = np.array([[41, 7], [0, 52]])
    shown = texts(diagrams.confusion(counts, ("$cat$", "<dog>\n")))
    assert {"41", "7", "52", "$cat$", r"<dog>\n"} <= set(shown)
    assert "0" not in shown
    assert shown.count("$cat$") == 2


@pytest.mark.parametrize(("classes", "named"), [(20, True), (60, False)])
def test_many_classes_are_shades_and_still_more_have_no_names(classes: int, named: bool) -> None:
    names = tuple(f"class {k}" for k in range(classes))
    svg = diagrams.confusion(1000 + np.arange(classes**2).reshape(classes, classes), names)
    assert ("class 7" in texts(svg)) == named
    assert "1000" not in texts(svg)
    assert "data:image/png;base64" in svg


def test_a_shade_is_the_root_of_a_part_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(diagrams.Axes, "imshow", lambda _, image, **__: seen.append(image))
    diagrams.confusion(np.array([[3, 1], [0, 0]]), ("a", "b"))
    np.testing.assert_allclose(seen[0][..., 3], 0.8 * np.sqrt([[0.75, 0.25], [0, 0]]))


def test_calibration_draws_what_was_said_and_what_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []
    plot = diagrams.Axes.plot
    monkeypatch.setattr(
        diagrams.Axes, "plot", lambda axes, *a, **k: drawn.append(a) or plot(axes, *a, **k)
    )
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.45, 0.55], [np.nan, 1.0]])
    svg = diagrams.calibration(probabilities, np.array([0, 1, 1, 0]))
    said, right = drawn[1][:2]
    np.testing.assert_allclose(said, [55, 96])
    np.testing.assert_allclose(right, [100, 50])
    assert "are right (%)" in texts(svg)
