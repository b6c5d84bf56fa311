"""The command predict: answers of exports about files of all kinds, some of them broken."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from tf_cutnmix import command, predict
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.networks import served
from tf_cutnmix.predicting import answers

EXPORT = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"
NAMES = ("dark", "<script>", "=1+1")


class Brightness(tf.Module):
    """An export that says which files are broken, with three classes by the mean pixel."""

    def __init__(self, names: pathlib.Path) -> None:
        super().__init__()
        self.class_names = tf.saved_model.Asset(str(names))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])[:, None] / 255.0
        return {"probabilities": tf.concat([1 - mean, mean / 2, mean / 2], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="bytes")])
    def files(self, contents: tf.Tensor) -> dict[str, tf.Tensor]:
        is_png = tf.strings.substr(contents, 1, 3) == "PNG"
        valid = is_png & (tf.strings.length(contents) > 50)
        length = tf.cast(tf.shape(contents)[0], tf.int64)
        return {"probabilities": tf.fill([length, 3], 1 / 3), "valid": valid}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Versions 1 (says what is valid), 2 (takes no files), 3 (has a name too few)."""
    folder = tmp_path_factory.mktemp("exports")
    names = folder / "class_names.txt"
    names.write_text("".join(f"{name}\n" for name in NAMES))
    model = Brightness(names)
    both = {"serving_default": model.images, "serve_bytes": model.files}
    tf.saved_model.save(model, str(folder / "1"), both)
    tf.saved_model.save(model, str(folder / "2"), {"serving_default": model.images})
    tf.saved_model.save(model, str(folder / "3"), both)
    (folder / "3" / "assets" / "class_names.txt").write_text("dark\n")
    return folder


@pytest.fixture
def photos(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The first digits as PNG, the second also as TIFF, and a file that is cut off."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, digit in enumerate(load_digits().images[:3]):
        picture = Image.fromarray((digit * 255 / 16).astype(np.uint8))
        picture.save(f"photos/{number}.png")
    picture.save("photos/2.tiff")
    (tmp_path / "photos" / "cut.png").write_bytes((tmp_path / "photos/1.png").read_bytes()[:50])
    return tmp_path / "photos"


def run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["predict", *arguments])
        return command.run("tf_cutnmix.predict", predict.SUMMARY, predict.Settings, predict.main)


def test_digits_are_told_and_the_broken_file_is_named(photos, capsys) -> None:
    outputs = ("--csv=a.csv", "--json=a.json", "--out=a.html")
    assert run(f"--savedmodel={EXPORT}", "photos", *outputs) == 1
    out, err = capsys.readouterr()
    _, *lines = out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["photos/0.png", "0"],
        ["photos/1.png", "1"],
        ["photos/2.png", "2"],
        ["photos/2.tiff", "2"],
    ]
    warning, error = err.splitlines()
    assert warning.startswith("warning: photos/cut.png: ")
    assert error == "error: 1 of 5 files cannot be read"
    said = json.loads(pathlib.Path("a.json").read_text())
    image = load_digits().images[:1, ..., None].repeat(3, -1) * 255 / 16
    expected = served.load(str(EXPORT), "x").predict(images=tf.constant(image.astype(np.uint8)))
    assert said[0]["classes"][0]["probability"] == pytest.approx(
        float(expected["probabilities"][0, 0]), abs=1e-5
    )
    assert len(pathlib.Path("a.csv").read_text().splitlines()) == 6
    assert pathlib.Path("a.html").read_text().count("<figure>") == 4


def test_whole_files_end_well(photos, capsys) -> None:
    assert run(f"--savedmodel={EXPORT}", "photos/*.tiff", "photos/0.png", "--batch_size=1") == 0
    assert capsys.readouterr().err == ""


def test_files_of_a_folder_that_are_left_out_are_named(photos, capsys) -> None:
    (photos / "cut.png").unlink()
    for name in ("notes.txt", "a\nb.pdf"):
        (photos / name).write_text("no picture")
    assert run(f"--savedmodel={EXPORT}", "photos") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("left out, being no pictures: photos/a")
    assert line.endswith("b.pdf, photos/notes.txt")


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_an_export_that_says_what_is_valid_is_believed(batch_size, photos, exports) -> None:
    export = served.load(str(exports / "1"), "savedmodel")
    paths = [photos / name for name in ("0.png", "cut.png", "2.tiff", "gone.png", "1.png")]
    png, cut, tiff, gone, last = answers.ask(export, paths, batch_size=batch_size)
    assert png.classes == last.classes == tuple((name, pytest.approx(1 / 3)) for name in NAMES)
    assert cut.problem
    assert gone.problem == "No such file or directory"
    brightness = np.asarray(Image.open(photos / "2.tiff")).mean() / 255
    assert dict(tiff.classes)["dark"] == pytest.approx(1 - brightness, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("photos",), "--savedmodel is missing"),
        (("--savedmodel=exports/1",), "PICTURES is missing"),
        (("--savedmodel=exports/2", "photos"), "no signature serve_bytes"),
        (("--savedmodel=exports/3", "photos/0.png"), "3 classes apart and names 1"),
        (("--savedmodel=nowhere", "photos"), "--savedmodel=nowhere"),
        (("--savedmodel=exports/1", "nothing"), "'nothing'"),
        (("--savedmodel=exports/1", "photos", "--csv=nowhere/a.csv"), "--csv=nowhere/a.csv"),
        (("--savedmodel=exports/1", "photos", "--out=photos"), "--out=photos is a folder"),
        (("--savedmodel=exports/1", "photos", "--batch_size=0"), "--batch_size=0"),
        (("--savedmodel=exports/1", "photos", "--csv=a", "--out=a"), "one file twice"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments, words, photos, exports, capsys) -> None:
    (photos.parent / "exports").symlink_to(exports)
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_without_a_file_that_can_be_read_there_is_no_table(photos, exports, capsys) -> None:
    with pytest.raises(RunError, match="1 of 1 files"):
        predict.main(predict.Settings(("photos/cut.png",), savedmodel=str(exports / "1")))
    assert capsys.readouterr().out == ""


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="PICTURES"):
        predict.Settings((), savedmodel="x")


def test_a_device_is_not_replaced(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    settings = predict.Settings(pictures=("x.png",), savedmodel="x", csv=str(tmp_path / "pipe"))
    with pytest.raises(InputError, match=r"--csv=.*pipe is no file: name one"):
        predict.main(settings)
    assert (tmp_path / "pipe").is_fifo()
