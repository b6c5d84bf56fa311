"""The images that a run was begun on, and what has become of them when it goes on."""

import dataclasses
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.data.pictures import plain, write
from tests.runs.short_runs import ALONE, run, state
from tf_cutnmix import data, export
from tf_cutnmix.data import folder as folders
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import checkpoints, loading, predictions
from tf_cutnmix.runs.config import Config

COUNTS = {"train": 20, "test": 8}
ON_PICTURES = {
    **ALONE,
    "dataset": "./pictures",
    "train_split": "train",
    "test_split": "test",
    "validation_split": "test",
    "batch_size": 8,
    "epochs": 2,
}


def write_pictures(folder: pathlib.Path) -> None:
    """Of two classes: 20 to train on of each, 8 to test."""
    for split, count in COUNTS.items():
        for value in range(count):
            for label, name in enumerate(("cat", "dog")):
                image = plain(4 * value + label + 2 * (split == "test"), 8, 8)
                write(folder / split / name / f"{value:02}.png", image)


@pytest.fixture
def pictures(tmp_path: pathlib.Path) -> pathlib.Path:
    write_pictures(tmp_path / "pictures")
    return tmp_path / "pictures"


def config_of(pictures: pathlib.Path, **settings: Any) -> Config:
    return Config(dataset=str(pictures), workdir="the_run", batch_size=8, **settings)


def begun_on(config: Config) -> checkpoints.Checkpoint:
    splits = loading.load_splits(config)
    facts = {"class_names": list(splits.train.class_names)}
    return checkpoints.Checkpoint([], [], [], facts, splits.fingerprints())


def remove(pictures: pathlib.Path) -> None:
    for number in range(3):
        (pictures / "train" / "cat" / f"{number:02}.png").unlink()


def remove_most(pictures: pathlib.Path) -> None:
    """Fewer than a batch are left, which is not what is to be said."""
    for number in range(4, 20):
        for name in ("cat", "dog"):
            (pictures / "train" / name / f"{number:02}.png").unlink()


def grow(pictures: pathlib.Path) -> None:
    write(pictures / "train" / "dog" / "new.png", plain(200, 8, 8))


def replace(pictures: pathlib.Path) -> None:
    write(pictures / "test" / "dog" / "01.png", plain(200, 8, 8))


def move(pictures: pathlib.Path) -> None:
    (pictures / "test" / "dog" / "01.png").rename(pictures / "test" / "cat" / "moved.png")


def reorder(pictures: pathlib.Path) -> None:
    (pictures / "test" / "dog" / "01.png").rename(pictures / "test" / "dog" / "99.png")


def swap_splits(pictures: pathlib.Path) -> None:
    (pictures / "test" / "dog" / "01.png").rename(pictures / "train" / "dog" / "99.png")


def rename_class(pictures: pathlib.Path) -> None:
    for split in COUNTS:
        (pictures / split / "dog").rename(pictures / split / "wolf")


OTHERS = r"pictures holds other images than the_run was begun on: {}; .* --new_images to"
ALL_BUT_TEST = r"\(train, validation\)"


@pytest.mark.parametrize(
    ("change", "words", "cached"),
    [
        (remove, OTHERS.format(f"3 removed {ALL_BUT_TEST}"), False),
        (remove_most, OTHERS.format(f"32 removed {ALL_BUT_TEST}"), False),
        (grow, OTHERS.format(f"1 added {ALL_BUT_TEST}"), True),
        (replace, OTHERS.format(r"1 removed, 1 added \(test\)"), True),
        (move, OTHERS.format(r"1 in another class \(test\)"), False),
        (reorder, OTHERS.format(r"in another order \(test\)"), False),
        (swap_splits, OTHERS.format(r"in another order \(train, validation, test\)"), False),
        (
            rename_class,
            "was begun on 2 classes .* holds 2, with 'wolf' in place of 'dog': train a",
            True,
        ),
    ],
)
def test_other_images_are_refused_in_a_line(change, words, cached, pictures, tmp_path):
    config = config_of(pictures, cache_dir=str(tmp_path / "cache") if cached else "")
    earlier = begun_on(config)
    change(pictures)
    with pytest.raises(InputError, match=words) as refused:
        loading.load_splits(config, earlier)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cached", [(False, False), (False, True), (True, False)])
def test_the_same_files_are_the_same_images(cached, pictures, tmp_path, monkeypatch):
    """Whatever their dates are, and as what another version of TensorFlow or Pillow reads them."""
    before, now = ({"cache_dir": str(tmp_path / "cache") if c else ""} for c in cached)
    earlier = begun_on(config_of(pictures, **before))
    for file in pictures.rglob("*.png"):
        os.utime(file, (1, 1))
    read = folders.pictures.read
    monkeypatch.setattr(folders.pictures, "read", lambda file, size: read(file, size) + 1)
    loading.load_splits(config_of(pictures, **now), earlier)


def test_digits_are_known_by_their_pixels():
    config = Config(train_split="train[:200]", test_split="test[:20]", workdir="the_run")
    earlier = begun_on(config)
    loading.load_splits(config, earlier)
    other = dataclasses.replace(config, train_split="train[:199]")
    with pytest.raises(InputError, match=r"1 removed"):
        loading.load_splits(other, earlier)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory, all_eagerly) -> pathlib.Path:
    """A folder with a run that was stopped after 4 of the 5 steps of its second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_pictures(folder / "pictures")
        run(pathlib.Path("run"), ON_PICTURES, steps=9)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path, monkeypatch) -> pathlib.Path:
    """A copy of that folder, which is the current one; its run."""
    shutil.copytree(stopped_once, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return pathlib.Path("run")


@pytest.mark.long
def test_a_run_whose_images_were_removed_within_an_epoch_is_refused_or_ends(stopped, capsys):
    statistics = state(stopped).facts["statistics"]
    for number in range(8):
        for name in ("cat", "dog"):
            pathlib.Path(f"pictures/train/{name}/{number:02}.png").unlink()
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=OTHERS.replace("the_", "").format(r"16 removed .*")):
        run(stopped, ON_PICTURES, resume=True)
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    capsys.readouterr()
    ended = run(stopped, ON_PICTURES, resume=True, new_images=True)
    assert "other images than before: 16 removed (train)\n" in capsys.readouterr().out
    assert ended.result["last"]["step"] == 2 * 3
    assert ended.result["best_on_validation"]["epoch"] == 2
    assert "new_images" not in (stopped / "flags.cfg").read_text()
    facts = state(stopped).facts
    assert (facts["epoch"], facts["batch"], facts["statistics"]) == (2, 0, statistics)
    longer = run(stopped, ON_PICTURES, resume=True, epochs=3)
    assert longer.result["last"]["step"] == 3 * 3


@pytest.mark.long
def test_an_export_after_images_were_added_is_still_of_the_trained_network(stopped, capsys):
    run(stopped, ON_PICTURES, resume=True)
    for value in range(30):
        image = plain(200 + value, 8, 8)
        write(pathlib.Path(f"pictures/train/dog/{value}_new.png"), image)
    export.main(export.Settings("run", export="teacher", export_dir="to", trust_code=True))
    assert "tried on other images than the run had: 30 added (train)" in capsys.readouterr().out
    exported = tf.saved_model.load("to/pictures_tiny_networks_tiny/1")
    pixels = data.load("./pictures", "test").pixels
    answer = exported.signatures["serving_default"](images=tf.constant(pixels))
    expected = predictions.read(stopped / "predictions.npz").probabilities["teacher"]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)


@pytest.mark.long
def test_a_run_of_before_whose_images_were_removed_within_an_epoch_ends(stopped, capsys):
    """Its checkpoints know nothing of its images."""
    for path in checkpoints.paths(stopped):
        checkpoints.save(path, checkpoints.read(path)._replace(images=[]))
    shutil.rmtree("pictures/train/cat")
    write(pathlib.Path("pictures/train/cat/one.png"), plain(9, 8, 8))
    ended = run(stopped, ON_PICTURES, resume=True)
    assert "\nclasses of unlike size: --balance=weights or sampling" in capsys.readouterr().out
    assert ended.result["last"]["step"] == 2 * 2
    assert [len(images) for images in state(stopped).images] == [21, 16, 16]
    np.testing.assert_array_equal(state(stopped).images[0][:, 1], [0] + 20 * [1])
