"""Which source a name is, and names that are none."""

import pathlib

import pytest

from tests.data.pictures import write_class
from tf_cutnmix import data
from tf_cutnmix.errors import InputError


@pytest.mark.parametrize("source", ["digits", "pets", "cifar100"])
@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("trian", "trian"),
        ("train[", "split"),
        ("", "split"),
        ("train[:99999]", "99999"),
        ("train[2:2]", "selects no images"),
    ],
)
def test_bad_splits_are_input_errors(
    source: str, split: str, words: str, pets: pathlib.Path, tfds_dir: str
) -> None:
    dataset = str(pets) if source == "pets" else source
    with pytest.raises(InputError) as caught:
        data.load(dataset, split, data_dir=tfds_dir)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="'cifar1O': did you mean 'cifar10'"):
        data.load("cifar1O", "train")


@pytest.mark.parametrize("dataset", ["zzzzqqqq", "my/pictures"])
def test_the_error_for_a_name_like_no_other_stays_readable(dataset: str) -> None:
    with pytest.raises(InputError, match=dataset) as caught:
        data.load(dataset, "train")
    assert len(str(caught.value)) < 300
    assert "folder" in str(caught.value)


@pytest.mark.parametrize("dataset", ["./nowhere", "~/nowhere/at/all", "/nowhere/at/all"])
def test_a_missing_folder_is_an_input_error(dataset: str) -> None:
    with pytest.raises(InputError, match=f"--dataset={dataset}: there is no such folder"):
        data.load(dataset, "train")


def test_an_empty_name_is_not_the_working_directory(
    pets: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets)
    with pytest.raises(InputError, match="--dataset"):
        data.load("", "train")


def test_a_folder_may_have_the_name_of_a_tfds_set(
    tmp_path: pathlib.Path, tfds_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("mnist/one", "mnist/two", "pictures/cat", "pictures/dog"):
        write_class(tmp_path / folder, range(3))
    monkeypatch.chdir(tmp_path)
    assert data.load("./mnist", "train").class_names == ("one", "two")
    assert data.load("mnist/", "train").class_names == ("one", "two")
    assert data.load("pictures", "train").class_names == ("cat", "dog")
    assert len(data.load("mnist", "train", data_dir=tfds_dir).class_names) == 10


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("digits", True),
        ("mnist", True),
        ("mnist:3.0.1", True),
        ("emnist/letters", True),
        ("svhn_cropped", True),
        ("cifar10", False),
        ("fashion_mnist", False),
        ("./digits", False),
    ],
)
def test_characters_have_a_direction(dataset: str, expected: bool) -> None:
    assert data.has_direction(dataset) is expected
