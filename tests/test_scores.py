"""Scores: figures of probabilities, and the evaluation of exports."""

import json
import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tf_cutnmix import evaluate, scores, served
from tf_cutnmix.errors import InputError

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


def random_case(
    count: int, classes: int, scale: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, their probabilities, and labels."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * scale
    return logits, scipy.special.softmax(logits, axis=1), random.integers(0, classes, count)


def calibration_error_by_loop(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = []
        for row, label in zip(probabilities, labels, strict=True):
            if b / bins < max(row) <= (b + 1) / bins:
                inside.append((np.argmax(row) == label, max(row)))
        if inside:
            accuracy, confidence = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


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


# Figures


def test_figures_of_a_case_by_hand() -> None:
    probabilities = np.array(
        [
            [0.4, 0.1, 0.1, 0.1, 0.1, 0.2],
            [0.3, 0.05, 0.25, 0.15, 0.1, 0.15],
            [0.25, 0.05, 0.2, 0.2, 0.15, 0.15],
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        ]
    )
    figures = scores.scores(probabilities, np.array([0, 2, 1, 5]))
    assert figures["images"] == 4
    assert figures["accuracy"] == 0.5
    assert figures["top5_accuracy"] == 0.75
    assert figures["negative_log_likelihood"] == pytest.approx(-np.log(0.4 * 0.25 * 0.05 * 1.0) / 4)
    assert figures["calibration_error"] == pytest.approx((0.6 + (0.3 + 0.25)) / 4)


def test_the_likelihood_is_that_of_scipy() -> None:
    logits, probabilities, labels = random_case(200, 7, scale=3.0)
    expected = -np.mean(scipy.special.log_softmax(logits, axis=1)[np.arange(200), labels])
    figures = scores.scores(probabilities, labels)
    assert figures["negative_log_likelihood"] == pytest.approx(expected)


def test_top5_counts_the_five_most_probable() -> None:
    _, probabilities, labels = random_case(300, 12, scale=1.0)
    five = np.argsort(-probabilities, axis=1)[:, :5]
    expected = np.mean([label in row for row, label in zip(five, labels, strict=True)])
    assert 0.2 < expected < 0.8
    assert scores.scores(probabilities, labels)["top5_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 4, 5])
def test_top5_of_five_or_fewer_classes_is_always_right(classes: int) -> None:
    _, probabilities, labels = random_case(50, classes, scale=2.0)
    figures = scores.scores(probabilities, labels)
    assert figures["top5_accuracy"] == 1.0
    assert figures["accuracy"] < 1.0


def test_probability_0_keeps_the_likelihood_finite() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    figures = scores.scores(probabilities, np.array([1, 1]))
    assert 10 < figures["negative_log_likelihood"] < 1000


def test_figures_can_be_written_as_json() -> None:
    _, probabilities, labels = random_case(20, 3, scale=1.0)
    figures = scores.scores(probabilities.astype(np.float32), labels.astype(np.int32))
    assert json.loads(json.dumps(figures)) == figures


# Calibration error


def test_no_calibration_error_where_confidence_is_accuracy() -> None:
    probabilities = np.tile([0.75, 0.25], (8, 1))
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    assert scores.calibration_error(probabilities, labels) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("labels", "expected"), [([1, 1, 1], 1.0), ([0, 0, 0], 0.0)])
def test_calibration_error_of_certainty_is_the_error_rate(
    labels: list[int], expected: float
) -> None:
    probabilities = np.tile([1.0, 0.0], (3, 1))
    assert scores.calibration_error(probabilities, np.array(labels)) == expected


def test_calibration_error_does_not_cancel_between_bins() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    error = scores.calibration_error(probabilities, np.array([1, 0]))
    assert error == pytest.approx((0.9 + 0.4) / 2)


@pytest.mark.parametrize("upper_edge", np.arange(8, 15) / 15)
def test_a_bin_holds_its_upper_edge(upper_edge: float) -> None:
    confidence = np.array([upper_edge, upper_edge + 1e-6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    error = scores.calibration_error(probabilities, np.array([0, 1]))
    assert error == pytest.approx((1 - confidence[0] + confidence[1]) / 2)


@hypothesis.given(
    classes=st.integers(2, 12),
    scale=st.floats(0.1, 10),
    bins=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_calibration_error_is_that_of_a_loop(
    classes: int, scale: float, bins: int, seed: int
) -> None:
    _, probabilities, labels = random_case(60, classes, scale, seed)
    expected = calibration_error_by_loop(probabilities, labels, bins)
    assert scores.calibration_error(probabilities, labels, bins) == pytest.approx(expected)


def test_calibration_error_has_fifteen_bins() -> None:
    _, probabilities, labels = random_case(200, 5, scale=2.0)
    expected = calibration_error_by_loop(probabilities, labels, 15)
    assert scores.scores(probabilities, labels)["calibration_error"] == pytest.approx(expected)


# Diversity


def test_diversity_is_the_mean_over_pairs_of_networks() -> None:
    probabilities = np.array(
        [
            [[0.9, 0.1], [0.2, 0.8]],
            [[0.6, 0.4], [0.7, 0.3]],
            [[0.1, 0.9], [0.2, 0.8]],
        ]
    )
    found = scores.diversity(probabilities)
    differ = [1 / 2, 1 / 2, 2 / 2]
    apart = np.sqrt(2) * np.array([(0.3 + 0.5) / 2, (0.8 + 0.0) / 2, (0.5 + 0.5) / 2])
    assert found["disagreement"] == pytest.approx(np.mean(differ))
    assert found["distance"] == pytest.approx(np.mean(apart))


def test_one_network_alone_has_no_diversity() -> None:
    assert scores.diversity(np.ones((1, 3, 2)) / 2) == {}


# Exports


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


# python -m tf_cutnmix.evaluate


def test_evaluate_prints_the_scores_as_json(exports: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pixels = write_folder(tmp_path, classes=4)
    arguments = [
        f"--savedmodel={exports / '1'}",
        f"--dataset={tmp_path}",
        "--split=train[:7]",
        "--batch_size=3",
    ]
    process = subprocess.run(
        [sys.executable, "-m", "tf_cutnmix.evaluate", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    expected = scores.scores(brightness_probabilities(pixels[:7]), np.repeat(range(4), 2)[:7])
    assert json.loads(process.stdout) == pytest.approx(expected, abs=1e-5)


def test_evaluate_needs_as_many_classes_as_the_export_has(
    exports: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    write_folder(tmp_path, classes=3)
    settings = evaluate.Settings(str(exports / "1"), dataset=str(tmp_path), split="train")
    with pytest.raises(InputError, match=r"4 classes .* has 3"):
        evaluate.main(settings)


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
    evaluate.main(evaluate.Settings(**settings, image_size=6))
    assert json.loads(capsys.readouterr().out)["images"] == 9


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
