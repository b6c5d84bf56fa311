"""Predictions of a run: read as they were saved, and nothing else is read."""

import pathlib

import numpy as np
import pytest

from tf_cutnmix.data import Images
from tf_cutnmix.errors import RunError
from tf_cutnmix.runs import predictions
from tf_cutnmix.runs.predictions import Predictions

NAMES = ("cat", "=dog", "fox")


def random_predictions(size: tuple[int, int] = (6, 4)) -> tuple[Predictions, np.ndarray]:
    """Of 20 images of 3 classes; their pixels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, *size, 3), np.uint8)
    answers = {name: random.dirichlet(np.ones(3), 20) for name in ("teacher", "peer1")}
    images = Images(pixels, random.integers(0, 3, 20), NAMES, name=lambda i: f"{i}.png")
    return predictions.collect(answers, images, lambda p: p[..., 0] / 255), pixels


def test_they_are_read_as_they_were_saved(tmp_path: pathlib.Path) -> None:
    saved, pixels = random_predictions()
    predictions.save(tmp_path / "a.npz", saved)
    found = predictions.read(tmp_path / "a.npz")
    for one, other in zip(found, saved, strict=True):
        np.testing.assert_equal(one, other)
    assert 0 < len(found.mistakes) <= 12
    assert found.examples.tolist() == [0, 1, 3, 5, 6, 8, 10, 12, 13, 15, 17, 19]
    shown = pixels[[*found.mistakes, *found.examples]]
    np.testing.assert_array_equal(found.pictures, shown)
    np.testing.assert_allclose(found.heat, shown[..., 0], atol=1)
    large, _ = random_predictions((400, 200))
    assert large.pictures.shape[1:] == (96, 48, 3)
    assert large.heat.shape == large.pictures.shape[:3]


def test_a_file_of_before_has_no_examples_and_no_heat(tmp_path: pathlib.Path) -> None:
    saved, pixels = random_predictions()
    path = tmp_path / "a.npz"
    arrays = {"labels": saved.labels, "mistakes": saved.mistakes}
    answers = {f"probabilities.{name}": p for name, p in saved.probabilities.items()}
    np.savez(path, pictures=pixels[saved.mistakes], **arrays, **answers)
    found = predictions.read(path)
    assert len(found.mistakes) == len(found.pictures) > 0
    assert len(found.examples) == len(found.heat) == 0


def test_a_run_of_before_has_positions_as_names(tmp_path: pathlib.Path) -> None:
    saved, _ = random_predictions()
    predictions.save(tmp_path / "a.npz", saved)
    with np.load(tmp_path / "a.npz") as file:
        np.savez(tmp_path / "b.npz", **{n: file[n] for n in file.files if n != "names"})
    assert predictions.read(tmp_path / "b.npz").names.tolist() == [str(i) for i in range(20)]


def test_every_mistake_has_its_name_and_what_was_said_the_surest_first() -> None:
    saved, _ = random_predictions()
    teacher = saved.probabilities["teacher"]
    expected = [
        (-max(row), i, f"{i}.png", NAMES[label], NAMES[np.argmax(row)])
        for i, (row, label) in enumerate(zip(teacher, saved.labels, strict=True))
        if np.argmax(row) != label
    ]
    assert len(expected) > 5
    found = predictions.mistakes(saved, NAMES)
    assert list(found) == ["file", "class", "predicted", "confidence"]
    assert list(found.itertuples(index=False, name=None)) == [
        (*rest, -negative) for negative, _, *rest in sorted(expected)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([0, 1])},
        {"labels": np.full(20, 3)},
        {"labels": np.zeros(20)},
        {"names": np.arange(20)},
        {"names": np.array(["a"])},
        {"mistakes": np.array([20])},
        {"mistakes": np.array([1, 2])},
        {"examples": np.array([20])},
        {"heat": np.zeros((1, 6, 4), np.uint8)},
        {"mistakes": np.zeros(0, int), "pictures": np.zeros((12, 0, 4, 3), np.uint8)},
        {"probabilities": {"peer1": np.ones((20, 3))}},
        {"probabilities": {"teacher": np.full((20, 3), "x")}},
        {"probabilities": {"teacher": np.ones((20, 3)), "peer1": np.ones((20, 4))}},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, tmp_path: pathlib.Path) -> None:
    saved, _ = random_predictions()
    predictions.save(tmp_path / "a.npz", saved._replace(**change))
    with pytest.raises(RunError, match=r"a\.npz: its arrays do not fit"):
        predictions.read(tmp_path / "a.npz")


def test_what_is_no_whole_file_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    predictions.save(path, random_predictions()[0])
    contents = [b"text", path.read_bytes()[: path.stat().st_size // 2]]
    for arrays in ({"other": np.zeros(3)}, {"labels": np.array([{}], dtype=object)}):
        np.savez(path, **arrays)
        contents.append(path.read_bytes())
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"cannot read .*a\.npz"):
            predictions.read(path)
