"""The whole way of one's own pictures, from weights that were trained on others."""

import csv
import importlib.util
import pathlib

import PIL.Image
import pytest
import sklearn.datasets

from tf_cutnmix import command, predict, train
from tf_cutnmix.runs.config import Config

CLASSES = ("ring", "stroke", "swan")


def write_pictures(folder: pathlib.Path) -> int:
    """Handwritten zeros, ones and twos, some tens of each, as pictures that are not square."""
    digits = sklearn.datasets.load_digits()
    chosen = [k for k, label in enumerate(digits.target) if label < len(CLASSES)][-150:]
    for k in chosen:
        path = folder / CLASSES[digits.target[k]] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = PIL.Image.fromarray((digits.images[k] * 15).astype("uint8"))
        picture.resize((20, 16)).save(path)
    return len(chosen)


def run_command(module, settings: type, *flags: str) -> None:
    module.main(command.parse(settings, flags))


@pytest.mark.long
def test_from_a_trained_backbone_to_a_page_answers_and_a_phone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    count = write_pictures(tmp_path / "pictures")
    network = ("--arch=tiny_networks:tiny", "--image_size=8", "--export=teacher")
    before = ("--dataset=digits", "--epochs=15", "--workdir=before")
    run_command(train, Config, *network, *before)
    assert "fine-tuning" not in capsys.readouterr().out

    litert = importlib.util.find_spec("ai_edge_litert") is not None
    formats = "litert" if litert else "savedmodel"
    own = ("--dataset=./pictures", "--weights_from=before", "--epochs=100")
    place = ("--workdir=after", f"--export_format={formats}", "--flip=off")
    run_command(train, Config, *network, *own, *place)
    assert "fine-tuning" in capsys.readouterr().out
    flags = (tmp_path / "after" / "flags.cfg").read_text().splitlines()
    assert {"--optimizer=adamw", "--schedule=cosine", "--weights_from=before"} <= set(flags)
    assert (tmp_path / "after" / "run.html").stat().st_size > 10_000
    if litert:
        assert list((tmp_path / "savedmodels").glob("pictures*/1/model.tflite"))

    run_command(predict, predict.Settings, "--savedmodel=after", "pictures", "--csv=answers.csv")
    with open("answers.csv", newline="") as file:
        answers = list(csv.DictReader(file))
    right = [pathlib.Path(a["file"]).parent.name == a["class_1"] for a in answers]
    assert len(right) == count
    assert sum(right) > 0.8 * count
