"""What a run makes of its images."""

import hashlib
import pathlib

import numpy as np
import pytest

from tests.data.pictures import plain, write
from tests.runs.short_runs import ALONE, model_of, run
from tf_cutnmix.data import Images
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import loading
from tf_cutnmix.runs.config import Config

BLAKE = hashlib.blake2b


def write_split(folder: pathlib.Path, *values: int) -> None:
    for name in ("cat", "dog"):
        for value in values:
            write(folder / name / f"{value}.png", plain(value + (name == "dog")))


@pytest.mark.parametrize(("images", "expected"), [(127, 8), (128, 16), (1023, 64), (50_000, 128)])
def test_a_batch_is_a_power_of_two_and_an_eighth_of_the_images_at_most(images, expected) -> None:
    pixels = np.broadcast_to(np.uint8(0), (images, 8, 8, 3))
    labels = np.arange(images, dtype=np.int32) % 3
    of_three = Images(pixels, labels, ("a", "b", "c"))
    assert model_of(of_three, ALONE, batch_size=None).method.batch_size == expected


def test_weights_make_classes_count_alike_and_images_once_in_the_mean() -> None:
    labels = np.repeat(np.arange(3), (1, 4, 15)).astype(np.int32)
    images = Images(np.zeros((20, 8, 8, 3), np.uint8), labels, ("a", "b", "c", "none"))
    model = model_of(images, ALONE, balance="weights", batch_size=8)
    weights = np.array(model.method.class_weights)
    np.testing.assert_allclose(weights[:3] * [1, 4, 15], 20 / 3)
    assert np.mean(weights[labels]) == pytest.approx(1)


def test_classes_that_a_split_lacks_are_named_whatever_the_source(tmp_path) -> None:
    write_split(tmp_path, *range(20))
    write(tmp_path / "fox" / "1.png", plain(99))
    notes = loading.load_splits(Config(dataset=str(tmp_path))).train.notes
    lacking = "has no images of 1 of the 3 classes: fox"
    assert notes[-2:] == (f"validation {lacking}", f"test {lacking}")
    digits = Config(train_split="train[:200]", test_split="test[:3]")
    (note,) = loading.load_splits(digits).train.notes
    assert note.startswith("test has no images of 7 of the 10 classes: 0, 1, ")


def test_too_few_images_for_the_smallest_batch_are_refused(tmp_path) -> None:
    write_split(tmp_path / "data", 1, 3, 5, 7, 9)
    with pytest.raises(InputError, match="--batch_size=8 is larger than the 6 training images"):
        run(tmp_path / "run", {"dataset": str(tmp_path / "data")})


def test_a_folder_of_its_own_chooses_the_epoch_and_nothing_is_held_out(tmp_path) -> None:
    for split, values in {"train": range(0, 40, 2), "val": (50, 60), "Test": (70,)}.items():
        write_split(tmp_path / split, *values)
    splits = loading.load_splits(Config(dataset=str(tmp_path), validation_fraction=0.5))
    assert [len(images.labels) for images in splits] == [40, 4, 2]
    assert splits.validation.pixels[:, 0, 0, 0].tolist() == [50, 60, 51, 61]
    other = Config(dataset=str(tmp_path), validation_split="Test", validation_fraction=0.0)
    assert loading.load_splits(other).validation.pixels[:, 0, 0, 0].tolist() == [70, 71]


def test_equal_images_are_counted_in_one_line(tmp_path) -> None:
    for split, values in {"train": (0, 2, 4), "val": (4, 8), "test": (0, 2, 6)}.items():
        write_split(tmp_path / split, *values)
    (tmp_path / "train" / "cat" / "again.png").write_bytes(
        (tmp_path / "train" / "cat" / "4.png").read_bytes()
    )
    notes = loading.load_splits(Config(dataset=str(tmp_path), batch_size=2)).train.notes
    assert notes[-1] == (
        "equal images: 1 of the 7 training images repeat others; 4 of the 6 test images are "
        "training images; 2 of the 4 validation images are training images"
    )


def test_equal_images_of_several_classes_are_contradictions_and_no_repeats(tmp_path) -> None:
    write_split(tmp_path / "train", *range(0, 40, 2))
    write_split(tmp_path / "test", 100)
    for name in ("train/dog/new.png", "test/cat/new.png"):
        write(tmp_path / name, plain(6))  # as the cat in 6.png
    write(tmp_path / "train/dog/more.png", plain(8))  # as the cat in 8.png
    config = Config(dataset=str(tmp_path), validation_fraction=0.0, workdir="the_run")
    splits = loading.load_splits(config)
    repeated, contradicting = splits.train.notes[-2:]
    assert repeated == "equal images: 1 of the 3 test images are training images"
    six = [f"{tmp_path}/train/cat/6.png", f"{tmp_path}/train/dog/new.png"]
    eight = [f"{tmp_path}/train/cat/8.png", f"{tmp_path}/train/dog/more.png"]
    assert contradicting == (
        f"equal images of several classes, of which one is wrong: {six[0]} (cat) and {six[1]} "
        f"(dog) and {tmp_path}/test/cat/new.png (cat), {eight[0]} (cat) and {eight[1]} (dog): "
        "the_run/contradictions.csv"
    )
    assert splits.contradictions().to_numpy().tolist() == [
        [1, six[0], "cat", "train"],
        [1, six[1], "dog", "train"],
        [1, f"{tmp_path}/test/cat/new.png", "cat", "test"],
        [2, eight[0], "cat", "train"],
        [2, eight[1], "dog", "train"],
    ]


def test_files_and_images_are_hashed_once(tmp_path, monkeypatch) -> None:
    write_split(tmp_path, *range(0, 40, 2))
    hashed = []
    monkeypatch.setattr(
        hashlib, "blake2b", lambda data, **size: hashed.append(data) or BLAKE(data, **size)
    )
    splits = loading.load_splits(Config(dataset=str(tmp_path)))
    assert len(splits.validation.labels) == 3
    assert len(set(hashed)) == len(hashed) == 2 * sum(len(images.labels) for images in splits)


@pytest.mark.parametrize(("size", "expected"), [(8, 500), (96, 55), (1000, 1)])
def test_an_evaluation_takes_fewer_images_at_once_the_larger_they_are(size, expected) -> None:
    pixels = np.broadcast_to(np.uint8(0), (600, size, size, 3))
    images = Images(pixels, np.zeros(600, np.int32), ("a", "b"))
    assert loading.for_evaluation(images).cardinality() == -(-600 // expected)
