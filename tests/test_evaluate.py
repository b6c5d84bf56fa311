"""Exports are loaded and evaluated."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests.data.pictures import write
from tf_cutnmix import data, evaluate
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import served
from tf_cutnmix.runs import scores

SLOPES = np.array([1.0, -2.0, 3.0, 0.5], np.float32)


class Brightness(tf.Module):
    """Tells four classes apart by the mean pixel; answers as an export does."""

    def __init__(self, class_names_file: pathlib.Path) -> None:
        super().__init__()
        self.slopes = tf.Variable(SLOPES)
        self.class_names = tf.saved_model.Asset(str(class_names_file))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        brightness = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3]) / 255.0
        return {"probabilities": tf.nn.softmax(brightness[:, None] * self.slopes)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 3], tf.float32, name="images")])
    def floats(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.reduce_mean(images, axis=[1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def channels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def numbers(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.reduce_sum(tf.cast(images, tf.int64), axis=[1, 2])}


def brightness_probabilities(pixels: np.ndarray) -> np.ndarray:
    brightness = pixels.mean(axis=(1, 2, 3)) / 255
    return scipy.special.softmax(brightness[:, None] * SLOPES, axis=1)


def write_folder(folder: pathlib.Path, *classes: str) -> None:
    """A data set of two random images a class."""
    pixels = np.random.default_rng(3).integers(0, 256, (2 * len(classes), 6, 6, 3), np.uint8)
    for i, image in enumerate(pixels):
        write(folder / "train" / classes[i // 2] / f"{i}.png", image)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Versions 1 (an export), 2 (no class names), 10 (no signature), 11 to 14 (others)."""
    folder = tmp_path_factory.mktemp("exports")
    names = folder / "class_names.txt"
    names.write_text("one\ntwo words\nthree\nfour\n")
    model = Brightness(names)
    default = "serving_default"
    signatures = {"1": model.serve, "11": model.double, "12": model.floats}
    signatures |= {"13": model.channels, "14": model.numbers}
    for version, signature in signatures.items():
        tf.saved_model.save(model, str(folder / version), {default: signature})
    shutil.copytree(folder / "1", folder / "2")
    (folder / "2" / "assets" / "class_names.txt").unlink()
    tf.saved_model.save(model, str(folder / "10"), {"something_else": model.serve})
    return folder


def settings_of(exports: pathlib.Path, folder: pathlib.Path, **more) -> evaluate.Settings:
    return evaluate.Settings(str(exports / "1"), dataset=str(folder), split="train", **more)


def test_an_export_is_loaded_and_answers_the_same_in_batches_of_any_size(exports) -> None:
    export = served.load(str(exports / "1"), "savedmodel")
    assert export.class_names == ("one", "two words", "three", "four")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), np.uint8)
    for batch_size in (1, 3, 100):
        probabilities = scores.predictions(export.predict, pixels, batch_size)
        np.testing.assert_allclose(probabilities, brightness_probabilities(pixels), atol=1e-6)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nowhere", "no such folder"),
        ("1/saved_model.pb", ""),
        ("1/assets", "no saved_model.pb"),
        ("", "answers without probabilities"),  # as its newest version does
        ("2", "is no export of tf_cutnmix: assets/class_names.txt names 0 classes"),
        ("10", "no export of tf_cutnmix"),
        ("11", "takes no images [N, H, W, C] uint8"),
        ("12", "takes no images [N, H, W, C] uint8"),
        ("13", "names 4 classes for probabilities (None, 3)"),
        ("14", "answers without probabilities [N, K] float32"),
        ("damaged", ""),
        ("without_weights", ""),
    ],
)
def test_what_is_no_export_is_refused_in_a_line(folder, words, exports, tmp_path) -> None:
    place = exports / folder
    if folder in ("damaged", "without_weights"):
        place = tmp_path
        graph = (exports / "1" / "saved_model.pb").read_bytes()
        content = b"no protocol buffer" if folder == "damaged" else graph
        (place / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError) as caught:
        served.load(str(place), "savedmodel")
    message = str(caught.value)
    assert f"--savedmodel={place}" in message
    assert words in message
    assert "\n" not in message


def test_evaluate_prints_the_scores_as_json(exports, tmp_path, capsys) -> None:
    write_folder(tmp_path, *(f"class_{i}" for i in range(4)))
    images = data.load(str(tmp_path), "train[:3]")
    capsys.readouterr()
    settings = dataclasses.replace(settings_of(exports, tmp_path), split="train[:3]", batch_size=3)
    evaluate.main(dataclasses.replace(settings, classes_by_position=True))
    printed = capsys.readouterr()
    (absent,) = set(range(4)) - set(images.labels.tolist())
    lacking = f"train[:3] has no images of 1 of the 4 classes: class_{absent}\n"
    assert printed.err == f"{tmp_path}: 8 pictures of 4 classes\n{lacking}"
    expected = scores.scores(brightness_probabilities(images.pixels), images.labels)
    assert json.loads(printed.out) == pytest.approx(expected, abs=1e-5)


def test_classes_are_found_by_their_names(exports, tmp_path, capsys) -> None:
    names = ("one", "two words", "three", "four")
    write_folder(tmp_path, *names)
    images = data.load(str(tmp_path), "train")
    # Sorted they are in another order than in the export.
    assert images.class_names == ("four", "one", "three", "two words")
    evaluate.main(settings_of(exports, tmp_path))
    labels = [names.index(images.class_names[label]) for label in images.labels]
    expected = scores.scores(brightness_probabilities(images.pixels), np.array(labels))
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected, abs=1e-5)


def test_other_classes_are_refused_unless_they_go_by_position(exports, tmp_path, capsys) -> None:
    write_folder(tmp_path / "few", "one", "two", "three")
    with pytest.raises(InputError, match=r"it has 'four', .* they have 'two'"):
        evaluate.main(settings_of(exports, tmp_path / "few"))
    with pytest.raises(InputError, match=r"4 classes .* has 3"):
        evaluate.main(settings_of(exports, tmp_path / "few", classes_by_position=True))
    write_folder(tmp_path / "four", "one", "b", "c", "d")
    with pytest.raises(InputError, match="it has 'four', 'three', 'two words', they have"):
        evaluate.main(settings_of(exports, tmp_path / "four"))
    evaluate.main(settings_of(exports, tmp_path / "four", classes_by_position=True))
    assert json.loads(capsys.readouterr().out)["images"] == 8


@pytest.mark.long
def test_images_are_resized_to_what_is_asked_or_what_the_export_takes(
    exports, tmp_path, capsys
) -> None:
    pictures = tmp_path / "pictures"
    write_folder(pictures, "one", "two words", "three", "four")
    write(pictures / "train" / "one" / "large.png", np.zeros((9, 20, 3), np.uint8))
    with pytest.raises(InputError, match="--image_size"):
        evaluate.main(settings_of(exports, pictures))
    evaluate.main(settings_of(exports, pictures, image_size=6))
    resized = json.loads(capsys.readouterr().out)
    assert resized["images"] == 9
    shutil.copytree(exports / "1", tmp_path / "exports" / "1")
    record = tmp_path / "exports" / "1" / "assets" / "export.json"
    record.write_text('{"input": {"height": 6, "width": 6}}')
    evaluate.main(settings_of(tmp_path / "exports", pictures))
    assert json.loads(capsys.readouterr().out) == resized
    record.write_text('{"input": 3}')
    with pytest.raises(InputError, match="is no export"):
        evaluate.main(settings_of(tmp_path / "exports", pictures))
