"""Runs with images that nobody has labelled."""

import json
import pathlib

import numpy as np
import pytest
import sklearn.datasets

from tests.data.pictures import plain, write
from tests.runs.short_runs import SMALL, Run, assert_equal_to_the_bit, run
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import build, loading, plan
from tf_cutnmix.runs.config import Config

WITH_OTHERS = {**SMALL, "unlabelled": "train[240:460]", "unlabelled_ratio": 2, "epochs": 2}


def test_pictures_that_judge_are_left_out_and_counted(tmp_path) -> None:
    for split, values in {"train": range(0, 40, 2), "val": (50, 60), "test": (70,)}.items():
        for value in values:
            for label, name in enumerate(("cat", "dog")):
                write(tmp_path / "pets" / split / name / f"{value}.png", plain(value + label))
    for value in (2, 51, 70, 71, 90, 91):
        write(tmp_path / "more" / f"{value}.png", plain(value))
    config = Config(dataset=str(tmp_path / "pets"), unlabelled=str(tmp_path / "more"), batch_size=8)
    splits = loading.load_splits(config)
    assert splits.unlabelled.pixels[:, 0, 0, 0].tolist() == [2, 90, 91]
    assert splits.train.notes[-2:] == (
        f"{tmp_path}/more: 6 pictures without labels",
        "unlabelled: left out 3 of 6 that are validation or test images",
    )
    for value in (2, 90, 91):
        (tmp_path / "more" / f"{value}.png").unlink()
    with pytest.raises(InputError, match="--unlabelled holds validation and test images alone"):
        loading.load_splits(config)
    write(tmp_path / "more" / "large.png", plain(9, 20, 20))
    with pytest.raises(InputError, match="pass --image_size"):
        loading.load_splits(config)


def test_batches_go_on_from_any_step_and_a_method_knows_their_size() -> None:
    config = Config(**WITH_OTHERS, method="dlb")
    found = plan.resolve(config, loading.load_splits(config))
    whole = list(found.batches(0).take(2 * found.steps_per_epoch).as_numpy_iterator())
    assert {images.shape[0] for images, _ in whole} == {96}
    for epoch in range(2):
        for batch in range(found.steps_per_epoch):
            expected = whole[epoch * found.steps_per_epoch + batch]
            images, labels = next(found.batches(epoch, batch).as_numpy_iterator())
            np.testing.assert_array_equal(images, expected[0])
            np.testing.assert_array_equal(labels, expected[1])
    assert build.build_model(found).method.batch_size == 96
    steps = np.concatenate([labels.any(axis=1) for _, labels in whole])
    np.testing.assert_array_equal(steps, np.arange(len(steps)) % 3 == 0)


@pytest.mark.parametrize("method", ["independent", "mcl", "kdcl"])
def test_a_method_without_a_use_for_them_is_refused_before_they_are_read(method) -> None:
    with pytest.raises(InputError, match=f"--method={method} has no use for images without"):
        build.check_names(Config(unlabelled="./nowhere", method=method))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("whole") / "run", WITH_OTHERS)


@pytest.mark.long
def test_other_labels_of_unlabelled_images_change_nothing_to_the_bit(
    trained, tmp_path, monkeypatch
) -> None:
    digits = sklearn.datasets.load_digits()
    # All but the labelled ones, and the last 360, which are the test split.
    others = slice(240, len(digits.target) - 360)
    wrong = np.random.default_rng(0).permutation(digits.target[others])
    assert np.mean(wrong == digits.target[others]) < 0.2
    digits.target[others] = wrong
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: digits)
    other = run(tmp_path / "run", WITH_OTHERS)
    assert_equal_to_the_bit(trained.folder, other.folder)


@pytest.mark.long
def test_a_run_with_them_goes_on_to_the_bit_and_says_what_they_are(
    trained, tmp_path, capsys
) -> None:
    run(tmp_path / "run", WITH_OTHERS, steps=6)
    printed = capsys.readouterr().out
    assert "\nunlabelled " in printed
    assert "220 images of train[240:460], 2 for each labelled one (--unlabelled_ratio)" in printed
    assert "4 steps of 32 labelled images (--batch_size)" in printed
    resumed = run(tmp_path / "run", WITH_OTHERS, resume=True)
    assert_equal_to_the_bit(trained.folder, resumed.folder)
    rows = [json.loads(line) for line in (trained.folder / "metrics.jsonl").open()]
    assert all(row["unlabelled"] > 0 for row in rows)
    assert trained.result["unlabelled_images"] == 220
    assert "--unlabelled=train[240:460]\n" in pathlib.Path(trained.folder, "flags.cfg").read_text()
