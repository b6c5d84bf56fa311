"""The card of an export says what was measured, whatever the classes are called."""

import re
from typing import Any

import numpy as np
import pytest

from tf_cutnmix.runs import card
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.predictions import Predictions

NAMES = ["cat", "<script>alert(1)</script>", "a|b\n# c", "x" * 300]
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
SAID = np.eye(4)[[0, 0, 0, 1, 1, 1, 2, 0]] * 0.9 + 0.025


def result(**more: Any) -> dict[str, Any]:
    figures = {
        f"{network}_{kind}": value
        for network, values in {"teacher": (0.75, 0.5, 0.25), "average2": (0.7, 0.4, 0.3)}.items()
        for kind, value in zip(
            ("accuracy", "balanced_accuracy", "calibration_error"), values, strict=True
        )
    }
    return {
        "flags": Config(dataset="./pets", epochs=7, arch="resnet20").flagfile().splitlines(),
        "class_names": NAMES,
        "counts": {"train": [9, 8, 7, 2], "validation": [1, 1, 1, 0], "test": [4, 2, 2, 0]},
        "image_size": [48, 64],
        "best_on_validation": {"epoch": 5, "step": 50, "validation": figures, "test": figures},
        "best_peer": "average2",
        "parameters": {"peer1": 10, "peer2": 10},
        "versions": {"tensorflow": "2.21.0", "machine": "secret"},
        **more,
    }


def write(kind: str, **more: Any) -> str:
    said = Predictions({"teacher": SAID, "average2": SAID[::-1]}, LABELS, *([np.zeros(0)] * 2))
    return card.write(result(**more), said, kind)


def table_rows(text: str, heading: str) -> list[list[str]]:
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_figures_have_their_splits() -> None:
    rows = table_rows(write("teacher"), "Figures")
    assert rows == [
        ["validation", "3", "75.00%", "50.00%", "25.00%"],
        ["test", "8", "75.00%", "50.00%", "25.00%"],
    ]
    assert "recalls of the classes that have images, on test 3 of 4;" in write("teacher")
    assert table_rows(write("peer"), "Figures")[1] == ["test", "8", "70.00%", "40.00%", "30.00%"]


def test_classes_have_their_counts_and_the_recall_of_the_network() -> None:
    text = write("teacher")
    rows = table_rows(text, "Classes and data")
    assert [row[1:] for row in rows] == [
        ["9", "1", "4", "75.0%"],
        ["8", "1", "2", "100.0%"],
        ["7", "1", "2", "50.0%"],
        ["2", "0", "0", "—"],
    ]
    assert [row[0] for row in rows[:3]] == [
        "cat",
        r"\<script\>alert(1)\</script\>",
        r"a\|b\\n# c",
    ]
    assert len(rows[3][0]) == 80
    assert table_rows(write("peer"), "Classes and data") != rows


@pytest.mark.parametrize(
    ("settings", "more", "told"),
    [
        ({}, {}, "trained on train, 10% of it held out for validation, tested on test."),
        ({"validation_fraction": 0.0}, {}, "trained on train, tested on test."),
        ({"validation_split": "v"}, {}, "trained on train, validated on v, tested on test."),
        ({}, {"validation_split": "v"}, "trained on train, validated on v, tested on test."),
        ({}, {"validation_split": ""}, "trained on train, 10% of it held out for validation, "),
    ],
)
def test_where_the_validation_images_came_from_is_said(settings, more, told) -> None:
    flags = Config(**settings).flagfile().splitlines()
    assert told in write("teacher", flags=flags, **more)


def test_calibration_is_counted_in_bins() -> None:
    (row,) = table_rows(write("teacher"), "Calibration")
    assert row == ["80% to 100%", "8", "92.5%", "75.0%"]


def test_limits_and_the_command_are_those_of_the_run() -> None:
    text = write("peer")
    assert "one network, `average2`" in text
    assert "resized to 64 x 48 pixels" in text
    assert f"of its rarest class, {'x' * 40}…" in text
    assert "python -m tf_cutnmix.train --dataset=./pets --arch=resnet20 --epochs=7 " in text
    assert "tensorflow 2.21.0" in text
    assert "secret" not in text


def test_without_a_validation_split_it_is_said() -> None:
    figures = result()["best_on_validation"]
    del figures["validation"]
    assert "Without a validation split" in write("teacher", best_on_validation=figures)


@pytest.mark.parametrize("kind", ["teacher", "peer"])
def test_no_name_is_a_heading_or_a_tag(kind: str) -> None:
    text = write(kind)
    assert len(re.findall(r"^#", text, re.M)) == 6
    assert "<script>" not in text.replace("\\<script\\>", "")


def test_a_command_is_one_line_for_a_shell() -> None:
    flags = Config(dataset="my pets; rm\n", workdir="runs/x").flagfile().replace("\n\n", "\\n\n")
    assert card.command(flags.splitlines()).startswith(
        "python -m tf_cutnmix.train '--dataset=my pets; rm"
    )
    assert "runs/x" not in card.command(flags.splitlines())
