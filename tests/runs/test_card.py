"""The card of an export says what was measured, whatever the classes are called."""

import re
from typing import Any

import numpy as np
import pytest
import yaml

from tf_cutnmix.runs import card
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.predictions import Predictions

NAMES = ["cat", "<script>alert(1)</script>", "a|b\n# c", "x" * 300]
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
ANSWERS = np.eye(4)[[0, 0, 0, 1, 1, 1, 2, 0]] * 0.9 + 0.025


def write(kind: str, settings: dict[str, Any] | None = None, **more: Any) -> str:
    figures = {
        f"{network}_{figure}": value
        for network, values in {"teacher": (0.75, 0.5, 0.25), "average2": (0.7, 0.4, 0.3)}.items()
        for figure, value in zip(
            ("accuracy", "balanced_accuracy", "calibration_error"), values, strict=True
        )
    }
    result = {
        "flags": Config(**(settings or {})).flagfile().splitlines(),
        "class_names": NAMES,
        "counts": {"train": [9, 8, 7, 2], "validation": [1, 1, 1, 0], "test": [4, 2, 2, 0]},
        "image_size": [48, 64],
        "best_on_validation": {"epoch": 5, "step": 50, "validation": figures, "test": figures},
        "best_peer": "average2",
        "parameters": {"peer1": 10, "peer2": 10},
        "versions": {"tensorflow": "2.21.0", "machine": "secret"},
        **more,
    }
    answers = {"teacher": ANSWERS, "average2": ANSWERS[::-1]}
    return card.write(result, Predictions(answers, LABELS, *([np.zeros(0)] * 3)), kind)


def table_rows(text: str, heading: str) -> list[list[str]]:
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_figures_and_classes_are_those_of_the_network_and_the_split() -> None:
    text, peer = write("teacher"), write("peer")
    assert table_rows(text, "Figures") == [
        ["validation", "3", "75.00%", "50.00%", "25.00%"],
        ["test", "8", "75.00%", "50.00%", "25.00%"],
    ]
    assert "recalls of the classes that have images, on test 3 of 4;" in text
    assert table_rows(peer, "Figures")[1] == ["test", "8", "70.00%", "40.00%", "30.00%"]
    rows = table_rows(text, "Classes and data")
    assert rows[:3] == [
        ["cat", "9", "1", "4", "75.0%"],
        [r"\<script\>alert(1)\</script\>", "8", "1", "2", "100.0%"],
        [r"a\|b\\n# c", "7", "1", "2", "50.0%"],
    ]
    assert len(rows[3][0]) == 80
    assert rows[3][1:] == ["2", "0", "0", "—"]
    assert table_rows(peer, "Classes and data") != rows
    assert table_rows(text, "Calibration") == [["80% to 100%", "8", "92.5%", "75.0%"]]


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ({}, {}, "trained on train, 10% of it held out for validation, tested on test."),
        ({"validation_fraction": 0.0}, {}, "trained on train, tested on test."),
        ({"validation_split": "v"}, {}, "trained on train, validated on v, tested on test."),
        ({}, {"validation_split": "v"}, "trained on train, validated on v, tested on test."),
        ({}, {"best_on_validation": {"epoch": 5, "step": 50}}, "Without a validation split"),
    ],
)
def test_where_the_validation_images_came_from_is_named(settings, more, words) -> None:
    if "best_on_validation" in more:
        figures = dict.fromkeys(("accuracy", "balanced_accuracy", "calibration_error"), 0.5)
        more["best_on_validation"]["test"] = {f"teacher_{k}": v for k, v in figures.items()}
    assert words in write("teacher", settings, **more)


def test_limits_and_the_command_are_those_of_the_run() -> None:
    settings = {"dataset": "my pets; rm", "epochs": 7, "arch": "resnet20", "workdir": "runs/x"}
    text = write("peer", settings)
    assert "one network, `average2`" in text
    assert "resized to 64 x 48 pixels" in text
    assert f"of its rarest class, {'x' * 40}…" in text
    assert "python -m tf_cutnmix.train '--dataset=my pets; rm' --arch=resnet20 --epochs=7" in text
    assert "tensorflow 2.21.0" in text
    assert "secret" not in text
    assert "runs/x" not in text


def test_hubs_read_the_test_figures_above_the_card() -> None:
    above = write("peer", {"dataset": "./my: 'pets'", "arch": "resnet20"}).split("---\n")[1]
    (model,) = yaml.safe_load(above)["model-index"]
    assert model["name"] == "peer of resnet20 on ./my: 'pets'"
    (result,) = model["results"]
    assert result["dataset"] == {"name": "./my: 'pets'", "type": "./my: 'pets'", "split": "test"}
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert figures == {"accuracy": 0.7, "balanced_accuracy": 0.4, "calibration_error": 0.3}


@pytest.mark.parametrize("kind", ["teacher", "peer"])
def test_no_name_is_a_heading_or_a_tag(kind: str) -> None:
    text = write(kind)
    assert len(re.findall(r"^#", text, re.M)) == 6
    assert "<script>" not in text.replace("\\<script\\>", "")
