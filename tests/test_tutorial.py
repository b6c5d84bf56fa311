"""The notebook runs as it stands, on a few small pictures in place of those that it loads."""

import csv
import os
import pathlib
import sys

import nbclient
import nbformat
import PIL.Image
import pytest
import sklearn.datasets

NOTEBOOK = pathlib.Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
CLASSES = ["one", "two", "zero"]


def write_digits(folder: pathlib.Path) -> None:
    """A folder of three classes of handwritten digits, some tens of each."""
    digits = sklearn.datasets.load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:300], digits.target, strict=False)):
        if label < 3:
            name = folder / ("zero", "one", "two")[label] / f"{number}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray((image * 15).astype("uint8")).save(name)


@pytest.mark.long
def test_every_cell_runs_and_the_answers_are_of_the_classes(tmp_path, monkeypatch) -> None:
    write_digits(tmp_path / "numbers")
    root = str(NOTEBOOK.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ["PYTHONPATH"]]))
    python = str(pathlib.Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([python, os.environ["PATH"]]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    chosen = {"pictures": "numbers", "image_size": 0, "arch": "tiny_networks:tiny", "epochs": 1}
    named = {line.partition(" = ")[0] for line in parameters.source.splitlines()}
    assert named == set(chosen)
    parameters.source = "\n".join(f"{name} = {value!r}" for name, value in chosen.items())
    done = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = {cell.id: str(cell.get("outputs")) for cell in done.cells}
    assert str(CLASSES) in outputs["photos"]
    assert "test accuracy" in outputs["train"]
    assert "<iframe srcdoc=" in outputs["page"]
    assert (tmp_path / "answers.csv").exists(), outputs["predict"]
    with open(tmp_path / "answers.csv", newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == len(CLASSES)
    assert {answer["class_1"] for answer in answers} <= set(CLASSES)
