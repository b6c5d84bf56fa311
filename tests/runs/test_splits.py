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
from tf_cutnmix.data import folder as folders
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import checkpoints, exporting, loading, predictions
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import changes

COUNTS = {"train": 20, "test": 8}


@pytest.fixture
def pictures(tmp_path: pathlib.Path) -> pathlib.Path:
    """Of two classes: 20 to train on of each, 8 to test."""
    for split, count in COUNTS.items():
        for value in range(count):
            for label, name in enumerate(("cat", "dog")):
                image = plain(4 * value + label + 2 * (split == "test"), 8, 8)
                write(tmp_path / "pictures" / split / name / f"{value:02}.png", image)
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


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove, OTHERS.format(f"3 removed {ALL_BUT_TEST}")),
        (remove_most, OTHERS.format(f"32 removed {ALL_BUT_TEST}")),
        (grow, OTHERS.format(f"1 added {ALL_BUT_TEST}")),
        (replace, OTHERS.format(r"1 removed, 1 added \(test\)")),
        (move, OTHERS.format(r"1 in another class \(test\)")),
        (reorder, OTHERS.format(r"in another order \(test\)")),
        (swap_splits, OTHERS.format(r"in another order \(train, validation, test\)")),
        (rename_class, "was begun on 2 classes .* holds 2, with 'wolf' in place of 'dog': train a"),
    ],
)
def test_other_images_are_refused_in_a_line(change, words, cached, pictures, tmp_path):
    config = config_of(pictures, cache_dir=str(tmp_path / "cache") if cached else "")
    earlier = begun_on(config)
    change(pictures)
    with pytest.raises(InputError, match=words) as refused:
        loading.load_splits(config, earlier)
    assert "\n" not in str(refused.value)


def decoded_otherwise(pictures: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another version of TensorFlow or Pillow might."""
    reader = folders._reader

    def other(image_size: int):
        def read(file: pathlib.Path):
            image, content = reader(image_size)(file)
            return image + 1, content

        return read

    monkeypatch.setattr(folders, "_reader", other)


def touched(pictures: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in pictures.rglob("*.png"):
        os.utime(file, (1, 1))


@pytest.mark.parametrize("change", [decoded_otherwise, touched])
@pytest.mark.parametrize("cached", [(False, False), (True, True), (False, True), (True, False)])
def test_the_same_files_are_the_same_images(change, cached, pictures, tmp_path, monkeypatch):
    before, now = ({"cache_dir": str(tmp_path / "cache") if c else ""} for c in cached)
    earlier = begun_on(config_of(pictures, **before))
    change(pictures, monkeypatch)
    assert changes(earlier, loading.load_splits(config_of(pictures, **now), earlier)) == ""


def test_digits_are_known_by_their_pixels(pictures):
    config = config_of(pictures)
    digits = Config(train_split="train[:200]", test_split="test[:20]", workdir="the_run")
    assert changes(begun_on(digits), loading.load_splits(digits)) == ""
    found = changes(begun_on(digits), loading.load_splits(config))
    assert found == "220 removed, 56 added (train, validation, test)"


def test_a_checkpoint_of_before_knows_nothing_of_its_images(pictures):
    earlier = begun_on(config_of(pictures))._replace(images=[])
    remove(pictures)
    assert changes(earlier, loading.load_splits(config_of(pictures), earlier)) == ""


BASE = {**ALONE, "train_split": "train", "test_split": "test", "batch_size": 8, "epochs": 2}


@pytest.fixture
def stopped(pictures, tmp_path, all_eagerly) -> dict[str, Any]:
    """The settings of a run that was stopped after 4 of the 5 steps of its second epoch."""
    settings = {**BASE, "dataset": str(pictures), "validation_split": "test"}
    run(tmp_path / "run", settings, steps=9)
    return settings


@pytest.mark.long
def test_a_run_whose_images_were_removed_within_an_epoch_is_refused_or_ends(
    stopped, pictures, tmp_path, capsys
):
    statistics = state(tmp_path / "run").facts["statistics"]
    for number in range(8):
        for name in ("cat", "dog"):
            (pictures / "train" / name / f"{number:02}.png").unlink()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=OTHERS.replace("the_run", ".*").format(r"16 removed .*")):
        run(tmp_path / "run", stopped, resume=True)
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    capsys.readouterr()
    ended = run(tmp_path / "run", stopped, resume=True, new_images=True)
    assert "other images than before: 16 removed (train)\n" in capsys.readouterr().out
    assert ended.result["last"]["step"] == 2 * 3
    assert ended.result["best_on_validation"]["epoch"] == 2
    assert "new_images" not in (tmp_path / "run" / "flags.cfg").read_text()
    facts = state(tmp_path / "run").facts
    assert (facts["epoch"], facts["batch"], facts["statistics"]) == (2, 0, statistics)
    again = run(tmp_path / "run", stopped, resume=True)
    assert again.result["last"] == ended.result["last"]
    longer = run(tmp_path / "run", stopped, resume=True, epochs=3)
    assert longer.result["last"]["step"] == 3 * 3


@pytest.mark.long
def test_an_export_after_images_were_added_is_still_of_the_trained_network(
    stopped, pictures, tmp_path, capsys
):
    ended = run(tmp_path / "run", stopped, resume=True)
    for value in range(30):
        write(pictures / "train" / "dog" / f"{value}_new.png", plain(200 + value, 8, 8))
    config = dataclasses.replace(ended.config, export="teacher", export_dir=str(tmp_path / "to"))
    exported = exporting.export_run(config)["teacher"]
    assert "tried on other images than the run had: 30 added (train)" in capsys.readouterr().out
    signature = tf.saved_model.load(exported).signatures["serving_default"]
    answer = signature(images=tf.constant(loading.load_splits(config).test.pixels))
    said = predictions.read(tmp_path / "run" / "predictions.npz").probabilities["teacher"]
    np.testing.assert_allclose(answer["probabilities"], said, atol=1e-4)


@pytest.mark.long
def test_a_run_of_before_whose_images_were_removed_within_an_epoch_ends(
    stopped, pictures, tmp_path
):
    for path in checkpoints.paths(tmp_path / "run"):
        checkpoints.save(path, checkpoints.read(path)._replace(images=[]))
    shutil.rmtree(pictures / "train" / "cat")
    write(pictures / "train" / "cat" / "one.png", plain(9, 8, 8))
    ended = run(tmp_path / "run", stopped, resume=True)
    assert ended.result["last"]["step"] == 2 * 2
    assert [len(images) for images in state(tmp_path / "run").images] == [21, 16, 16]
    np.testing.assert_array_equal(state(tmp_path / "run").images[0][:, 1], [0] + 20 * [1])
