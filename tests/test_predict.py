"""The command predict: answers of exports about files of all kinds, some of them broken."""

import base64
import csv
import io
import json
import os
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from tests.reporting.test_run_page import Reader
from tf_cutnmix import command, predict, predicting
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.networks import served
from tf_cutnmix.predicting import Answer

EXPORT = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"
NAMES = ("dark", "<script>", "=1+1")
SCRIPT = "<script>alert(1)</script>"
ANSWERS = [
    Answer(pathlib.Path("a/cat.png"), (("cat", 0.75), (SCRIPT, 0.2), ("=1+1", 0.05))),
    Answer(
        pathlib.Path("=cmd|' /C calc'!A0"),
        (("=1+1", 0.5), ("two\nlines", 0.3), ("x", 0.2)),
        unsure=True,
    ),
    Answer(pathlib.Path("\u202egnp.exe"), (("ב" * 300, 1.0), ("cat", 0.0), ("x", 0.0))),
    Answer(pathlib.Path("-broken\n.png"), problem="it is no picture"),
]


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

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def unsure_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = self.images(images)
        return answer | {"confident": answer["probabilities"][:, 0] < 0.5}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="bytes")])
    def unsure_files(self, contents: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = self.files(contents)
        return answer | {"confident": tf.zeros_like(answer["valid"])}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Versions 1 (says what is valid), 2 (takes no files), 3 (has a name too few), and 4.

    4 says what it is confident of: of no file, and of images that are not dark.
    """
    folder = tmp_path_factory.mktemp("exports")
    names = folder / "class_names.txt"
    names.write_text("".join(f"{name}\n" for name in NAMES))
    model = Brightness(names)
    both = {"serving_default": model.images, "serve_bytes": model.files}
    tf.saved_model.save(model, str(folder / "1"), both)
    tf.saved_model.save(model, str(folder / "2"), {"serving_default": model.images})
    tf.saved_model.save(model, str(folder / "3"), both)
    unsure = {"serving_default": model.unsure_images, "serve_bytes": model.unsure_files}
    tf.saved_model.save(model, str(folder / "4"), unsure)
    (folder / "3" / "assets" / "class_names.txt").write_text("dark\n")
    return folder


@pytest.fixture
def photos(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The first digits as PNG, the third also as TIFF, one cut off, and what is no picture."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/deep/er", "photos/.hidden", "empty"):
        (tmp_path / name).mkdir(parents=True)
    for number, digit in enumerate(load_digits().images[:3]):
        picture = Image.fromarray((digit * 255 / 16).astype(np.uint8))
        picture.save(f"photos/{number}.png")
    picture.save("photos/deep/er/2.tiff")
    picture.save("photos/.hidden/2.png")
    picture.save("photos/d[1].png")
    (tmp_path / "photos" / "cut.png").write_bytes((tmp_path / "photos/1.png").read_bytes()[:50])
    for name in ("notes.txt", "a\nb.pdf"):
        (tmp_path / "photos" / name).write_text("no picture")
    return tmp_path / "photos"


def run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["predict", *arguments])
        return command.run("tf_cutnmix.predict", predict.SUMMARY, predict.Settings, predict.main)


def test_digits_are_told_and_what_is_broken_or_no_picture_is_named(photos, capsys) -> None:
    outputs = ("--csv=a.csv", "--json=a.json", "--out=a.html")
    assert run(f"--savedmodel={EXPORT}", "photos", *outputs) == 1
    out, err = capsys.readouterr()
    _, *lines = out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["photos/0.png", "0"],
        ["photos/1.png", "1"],
        ["photos/2.png", "2"],
        ["photos/d[1].png", "2"],
        ["photos/deep/er/2.tiff", "2"],
    ]
    left_out, warning, error = err.splitlines()
    assert left_out == r"left out, being no pictures: photos/a\nb.pdf, photos/notes.txt"
    assert warning.startswith("warning: photos/cut.png: ")
    assert error == "error: 1 of 6 files cannot be read"
    first, *_ = json.loads(pathlib.Path("a.json").read_text())
    shown = {answer["class"]: f"{answer['probability']:.1%}" for answer in first["classes"]}
    assert lines[0].split()[1:3] == ["0", shown["0"]]
    assert len(pathlib.Path("a.csv").read_text().splitlines()) == 7
    assert pathlib.Path("a.html").read_text().count("<figure>") == 5


def test_whole_files_end_well(photos, exports, capsys) -> None:
    assert run(f"--savedmodel={exports}/1", "photos/**/*.tiff", "photos/0.png") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_what_tensorflow_cannot_read_pillow_reads(batch_size, photos, exports) -> None:
    export = served.load(str(exports / "1"), "savedmodel")
    files = ("0.png", "cut.png", "deep/er/2.tiff", "gone.png", "1.png")
    paths = [photos / name for name in files]
    png, cut, tiff, gone, last = predicting.ask(export, paths, batch_size=batch_size)
    assert png.classes == last.classes == tuple((name, pytest.approx(1 / 3)) for name in NAMES)
    assert cut.problem
    assert gone.problem == "No such file or directory"
    brightness = np.asarray(Image.open(photos / "2.png")).mean() / 255
    assert dict(tiff.classes)["dark"] == pytest.approx(1 - brightness, abs=1e-5)


@pytest.mark.parametrize(
    ("version", "below", "unsure"),
    [
        ("1", None, [False, False]),  # of before
        ("1", 0.5, [True, False]),
        ("4", None, [True, True]),
        ("4", 0.0, [False, False]),
    ],
)
def test_an_answer_is_unsure_where_the_export_or_the_user_says_so(
    version, below, unsure, photos, exports
) -> None:
    export = served.load(str(exports / version), "savedmodel")
    paths = [photos / "0.png", photos / "deep/er/2.tiff"]
    answers = predicting.ask(export, paths, batch_size=2, unsure_below=below)
    assert [answer.unsure for answer in answers] == unsure


def test_a_picture_that_would_fill_the_memory_is_refused(photos, exports, monkeypatch) -> None:
    export = served.load(str(exports / "1"), "savedmodel")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    (answer,) = predicting.ask(export, [photos / "deep/er/2.tiff"], batch_size=1)
    assert "64 pixels" in answer.problem


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("photos",), "--savedmodel is missing"),
        (("--savedmodel=exports/1",), "PICTURES is missing"),
        (("--savedmodel=exports/2", "photos"), "no signature serve_bytes"),
        (("--savedmodel=exports/3", "photos/0.png"), "names 1 classes for probabilities"),
        (("--savedmodel=exports/1", "photos", "--csv=nowhere/a.csv"), "--csv=nowhere/a.csv"),
        (("--savedmodel=exports/1", "photos", "--out=photos"), "--out=photos cannot be written"),
        (("--savedmodel=exports/1", "photos", "--csv=pipe"), "--csv=pipe cannot be written"),
        (("--savedmodel=exports/1", "photos", "--csv=a", "--out=a"), "one file twice"),
        (("--savedmodel=exports/1", "photos", "--heatmap"), "pass --out=FILE too"),
        (("--savedmodel=exports/2", "photos", "--heatmap", "--out=a"), "no signature heatmap"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments, words, photos, exports, capsys) -> None:
    for name in ("a\nb.pdf", "notes.txt"):
        (photos / name).unlink()
    (photos.parent / "exports").symlink_to(exports)
    os.mkfifo("pipe")  # as a device is
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
    assert pathlib.Path("pipe").is_fifo()


def test_without_a_file_that_can_be_read_there_is_no_table(photos, exports, capsys) -> None:
    with pytest.raises(RunError, match="1 of 1 files"):
        predict.main(predict.Settings(("photos/cut.png",), savedmodel=str(exports / "1")))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["photos"], ["0.png", "1.png", "2.png", "cut.png", "d[1].png", "deep/er/2.tiff"]),
        (["photos/1.png", "photos", "photos/1.png"], ["1.png", "0.png", "2.png", "cut.png"]),
        (["photos/[01].png"], ["0.png", "1.png"]),
        (["photos/**/*.tiff"], ["deep/er/2.tiff"]),
        (["photos/d[1].png"], ["d[1].png"]),
        (["photos/notes.txt"], ["notes.txt"]),
        (["photos/notes.txt", "photos"], ["notes.txt", "0.png"]),
    ],
)
def test_files_folders_and_patterns(places: list[str], found: list[str], photos) -> None:
    files, left_out = predicting.find(places)
    names = [path.relative_to("photos").as_posix() for path in files]
    assert names[: len(found)] == found
    assert len(names) == len(set(names))
    others = [pathlib.Path("photos", name) for name in ("a\nb.pdf", "notes.txt")]
    expected = [path for path in others if path not in files] if "photos" in places else []
    assert left_out == expected


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("photos/x.png", "no such file"),
        ("photos/*.webp", "no such file"),
        ("empty", "holds no pictures"),
        ("new\nline", "no such file"),
    ],
)
def test_a_place_that_names_nothing_is_refused(place: str, words: str, photos) -> None:
    with pytest.raises(InputError, match=words) as caught:
        predicting.find([place])
    assert "\n" not in str(caught.value)


def test_the_table_has_a_line_of_moderate_length_for_each_file_that_was_read() -> None:
    header, *lines = predicting.table(ANSWERS).splitlines()
    assert header.split() == ["file", "class", "probability", "or", "else"]
    assert len(lines) == 3
    assert lines[0].split() == ["a/cat.png", "cat", "75.0%", SCRIPT, "20.0%,", "=1+1", "5.0%"]
    assert r"two\nlines 30.0%" in lines[1]
    assert "unsure: =1+1" in lines[1]
    assert lines[2].startswith(r"\u202egnp.exe")
    assert len(lines[2]) < 160
    assert len({line.index("%") for line in lines}) == 1


@pytest.mark.parametrize("answers", [ANSWERS, ANSWERS[::-1]])
def test_csv_parses_back_and_computes_nothing(answers) -> None:
    text = predicting.as_csv(answers)
    reader = csv.DictReader(io.StringIO(text))
    rows = {row["file"]: row for row in reader}
    pairs = [f"{kind}_{place}" for place in (1, 2, 3) for kind in ("class", "probability")]
    assert reader.fieldnames == ["file", *pairs, "unsure", "problem"]
    assert len(rows) == 4
    first, broken = rows["a/cat.png"], rows["'-broken\n.png"]
    assert (first["class_1"], float(first["probability_1"])) == ("cat", 0.75)
    assert first["class_3"] == "'=1+1"
    assert rows["'=cmd|' /C calc'!A0"]["class_2"] == "two\nlines"
    assert (broken["problem"], broken["class_1"]) == ("it is no picture", "")
    assert [row["unsure"] for row in rows.values()] == (
        ["False", "True", "False", ""] if answers is ANSWERS else ["", "False", "True", "False"]
    )
    cells = [cell for row in rows.values() for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_json_holds_the_names_as_they_are() -> None:
    first, second, third, broken = json.loads(predicting.as_json(ANSWERS))
    assert first["classes"][1] == {"class": SCRIPT, "probability": 0.2}
    assert second["file"] == "=cmd|' /C calc'!A0"
    assert (first["unsure"], second["unsure"]) == (False, True)
    assert third["classes"][0]["class"] == "ב" * 300
    assert broken == {"file": "-broken\n.png", "problem": "it is no picture"}


def test_the_page_shows_small_pictures_and_names_and_loads_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.new("RGB", (800, 400), "red").save(path)
    page = Reader(predicting.page([*ANSWERS, ANSWERS[0]._replace(path=path)], f"{SCRIPT}/1"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.tags.count("figure") == 4
    (picture,) = (value for name, value in page.attributes if name in ("src", "href"))
    assert picture.startswith("data:image/jpeg;base64,")
    assert len(picture) < 3000
    for words in (
        *(SCRIPT, "Its picture cannot be shown.", r"\u202egnp.exe"),
        r"-broken\n.png: it is no picture",
        "unsure: ",
    ):
        assert words in page.text
    assert page.tags.count("bdi") > 12


def test_a_heat_map_lies_over_its_picture_in_the_same_shape(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (800, 400), "blue").save(path)

    def left_half(images: tf.Tensor) -> dict[str, tf.Tensor]:
        assert images.shape == (1, 400, 800, 3)
        return {"heatmap": tf.repeat(tf.constant([[[1.0, 0.0]]]), [32, 32], axis=2)}

    page = predicting.page([ANSWERS[0]._replace(path=path)], "an export", left_half)
    shown, heat = (
        Image.open(io.BytesIO(base64.b64decode(link)))
        for link in re.findall(r"base64,([^\"]+)\"", page)
    )
    assert heat.size == shown.size == (160, 80)
    cover = np.asarray(heat)[..., 3]
    assert cover[:, :70].min() > 120
    assert cover[:, 90:].max() == 0
    assert page.count('type="checkbox"') == 1
