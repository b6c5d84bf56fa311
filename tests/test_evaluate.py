"""Exports are loaded and evaluated."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tf_cutnmix import data, evaluate
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import served
from tf_cutnmix.runs import scores

SLOPES = np.array([1.0, -2.0, 3.0, 0.5], np.float32)


class Brightness(tf.Module):
    """Tells four classes apart by the mean pixel; answers as an export does."""

    def __init__(self, class_names_file: pathlib.Path | None = None) -> None:
        super().__init__()
        self.slopes = tf.Variable(SLOPES)
        if class_names_file:
            self.class_names = tf.saved_model.Asset(str(class_names_file))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        brightness = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3]) / 255.0
        return {"probabilities": tf.nn.softmax(brightness[:, None] * self.slopes)}


def brightness_probabilities(pixels: np.ndarray) -> np.ndarray:
    brightness = pixels.mean(axis=(1, 2, 3)) / 255
    return scipy.special.softmax(brightness[:, None] * SLOPES, axis=1)


def write_folder(folder: pathlib.Path, classes: int) -> np.ndarray:
    """A data set of two random images a class; its pixels in the order of their classes."""
    pixels = np.random.default_rng(3).integers(0, 256, (2 * classes, 6, 6, 3), np.uint8)
    for i, image in enumerate(pixels):
        path = folder / "train" / f"class_{i // 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return pixels


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Versions 1 (an export), 2 (no class names), 10 (no signature) of a model."""
    folder = tmp_path_factory.mktemp("exports")
    names = folder / "class_names.txt"
    names.write_text("one\ntwo words\nthree\nfour\n")
    for version, asset in (("1", names), ("2", None)):
        model = Brightness(asset)
        tf.saved_model.save(model, str(folder / version), {"serving_default": model.serve})
    model = Brightness(names)
    tf.saved_model.save(model, str(folder / "10"), {"something_else": model.serve})
    return folder


def test_an_export_is_loaded_with_its_class_names(exports: pathlib.Path) -> None:
    export = served.load(str(exports / "1"), "savedmodel")
    assert export.class_names == ("one", "two words", "three", "four")


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_predictions_do_not_depend_on_the_batch_size(
    batch_size: int, exports: pathlib.Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), np.uint8)
    export = served.load(str(exports / "1"), "savedmodel")
    probabilities = scores.predictions(export.predict, pixels, batch_size)
    np.testing.assert_allclose(probabilities, brightness_probabilities(pixels), atol=1e-6)


def load_error(folder: pathlib.Path | str) -> str:
    with pytest.raises(InputError) as caught:
        served.load(str(folder), "savedmodel")
    message = str(caught.value)
    assert f"--savedmodel={folder}" in message
    assert "\n" not in message
    return message


def test_a_missing_folder_is_said_to_be_missing() -> None:
    assert "no such folder" in load_error("./nowhere")


def test_a_file_is_no_export(exports: pathlib.Path) -> None:
    load_error(exports / "1" / "saved_model.pb")


def test_a_folder_without_a_model_is_no_export(tmp_path: pathlib.Path) -> None:
    assert "no saved_model.pb" in load_error(tmp_path)


def test_a_folder_of_versions_names_them_in_order(exports: pathlib.Path) -> None:
    assert load_error(exports).endswith("1, 2, 10")


@pytest.mark.parametrize("version", ["2", "10"])
def test_another_saved_model_is_no_export(version: str, exports: pathlib.Path) -> None:
    assert "no export of tf_cutnmix" in load_error(exports / version)


@pytest.mark.parametrize("content", [b"", b"no protocol buffer"])
def test_a_damaged_model_is_no_export(content: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    load_error(tmp_path)


def test_a_model_without_its_weights_is_no_export(
    exports: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    graph = (exports / "1" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(graph)
    load_error(tmp_path)


@pytest.mark.long
def test_evaluate_prints_the_scores_as_json(exports: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write_folder(tmp_path, classes=4)
    images = data.load(str(tmp_path), "train[:3]")
    arguments = [
        f"--savedmodel={exports / '1'}",
        f"--dataset={tmp_path}",
        "--split=train[:3]",
        "--batch_size=3",
        "--classes_by_position",
    ]
    process = subprocess.run(
        [sys.executable, "-m", "tf_cutnmix.evaluate", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (absent,) = set(range(4)) - set(images.labels.tolist())
    lacking = f"train[:3] has no images of 1 of the 4 classes: class_{absent}\n"
    assert process.stderr == f"{tmp_path}: 8 pictures of 4 classes\n{lacking}"
    assert process.returncode == 0
    expected = scores.scores(brightness_probabilities(images.pixels), images.labels)
    assert json.loads(process.stdout) == pytest.approx(expected, abs=1e-5)


def test_evaluate_needs_as_many_classes_as_the_export_has(
    exports: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    write_folder(tmp_path, classes=3)
    settings = {"savedmodel": str(exports / "1"), "dataset": str(tmp_path), "split": "train"}
    with pytest.raises(InputError, match=r"it has 'four', .* they have 'class_0'"):
        evaluate.main(evaluate.Settings(**settings))
    with pytest.raises(InputError, match=r"4 classes .* has 3"):
        evaluate.main(evaluate.Settings(**settings, classes_by_position=True))


def test_evaluate_finds_classes_by_their_names(
    exports: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path, classes=4)
    # Sorted they are in another order than in the export.
    names = ("one", "two words", "three", "four")
    for i, name in enumerate(names):
        (tmp_path / "train" / f"class_{i}").rename(tmp_path / "train" / name)
    images = data.load(str(tmp_path), "train")
    assert images.class_names == ("four", "one", "three", "two words")
    evaluate.main(evaluate.Settings(str(exports / "1"), dataset=str(tmp_path), split="train"))
    labels = [names.index(images.class_names[label]) for label in images.labels]
    expected = scores.scores(brightness_probabilities(images.pixels), np.array(labels))
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected, abs=1e-5)


def test_evaluate_refuses_other_names_unless_told_to_go_by_position(
    exports: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path, classes=4)
    (tmp_path / "train" / "class_0").rename(tmp_path / "train" / "one")
    settings = {"savedmodel": str(exports / "1"), "dataset": str(tmp_path), "split": "train"}
    with pytest.raises(InputError, match="it has 'four', 'three', 'two words', they have"):
        evaluate.main(evaluate.Settings(**settings))
    evaluate.main(evaluate.Settings(**settings, classes_by_position=True))
    assert json.loads(capsys.readouterr().out)["images"] == 8


@pytest.mark.long
def test_evaluate_resizes_images(
    exports: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path, classes=4)
    (tmp_path / "train" / "class_0" / "large.png").write_bytes(
        tf.io.encode_png(np.zeros((9, 20, 3), np.uint8)).numpy()
    )
    settings = {"savedmodel": str(exports / "1"), "dataset": str(tmp_path), "split": "train"}
    with pytest.raises(InputError, match="--image_size"):
        evaluate.main(evaluate.Settings(**settings))
    settings["classes_by_position"] = True
    evaluate.main(evaluate.Settings(**settings, image_size=6))
    resized = json.loads(capsys.readouterr().out)
    assert resized["images"] == 9
    record = exports / "1" / "assets" / "export.json"
    record.write_text('{"input": {"height": 6, "width": 6}}')
    evaluate.main(evaluate.Settings(**settings))
    assert json.loads(capsys.readouterr().out) == resized
    for content in ('{"input": {"height": 6, "width": 7}}', "{}", '{"input": 3}'):
        record.write_text(content)
        with pytest.raises(InputError, match=r"--image_size|is no export"):
            evaluate.main(evaluate.Settings(**settings))
    record.unlink()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"savedmodel": ""}, "--savedmodel is missing"),
        ({"savedmodel": "x", "batch_size": 0}, "--batch_size=0"),
        ({"savedmodel": "x", "image_size": -1}, "--image_size=-1"),
    ],
)
def test_evaluate_checks_its_settings(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate.Settings(**settings)
