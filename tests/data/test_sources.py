"""Which source a name is, the digits, data sets of TFDS, and names that are none."""

import pathlib

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds

from tests.data.pictures import noise, plain, store_tfds, values, write, write_class
from tf_cutnmix import data
from tf_cutnmix.errors import InputError


def test_digits_are_those_of_scikit_learn_and_the_last_360_are_the_test_split() -> None:
    source = sklearn.datasets.load_digits()
    expected = np.round(source.images / 16 * 255)
    for split, part in {
        "train": slice(0, 1437),
        "test": slice(1437, None),
        "train[:20]": slice(0, 20),
        "train[75%:]": slice(1078, 1437),
    }.items():
        images = data.load("digits", split)
        assert (images.pixels.dtype, images.labels.dtype) == (np.uint8, np.int32)
        for channel in range(3):
            np.testing.assert_array_equal(images.pixels[..., channel], expected[part])
        np.testing.assert_array_equal(images.labels, source.target[part])
        assert images.class_names == tuple("0123456789")
    larger = data.load("digits", "test[:5]", image_size=12)
    test = data.load("digits", "test[:5]")
    np.testing.assert_array_equal(larger.pixels, data.resize(test.pixels, (12, 12)))
    wide = data.load("digits", "test[:5]", image_size="16x12")
    np.testing.assert_array_equal(wide.pixels, data.resize(test.pixels, (12, 16)))


def test_unlabelled_images_are_a_folder_or_a_split_without_its_labels(pets, tmp_path) -> None:
    for name, value in {"b.png": 7, "deep/er/a.png": 8, "deep/c.png": 9}.items():
        write(tmp_path / "more" / name, plain(value))
    (tmp_path / "more" / "deep" / "notes.txt").touch()
    images = data.load_unlabelled("digits", str(tmp_path / "more"))
    assert values(images) == [7, 9, 8]
    assert images.notes == (f"{tmp_path}/more: 3 pictures without labels; skipped 1 .txt",)
    split = data.load_unlabelled(str(pets), "train[50%:]", cache_dir=str(tmp_path / "cache"))
    assert values(split) == values(data.load(str(pets), "train[50%:]"))
    for found in (images, split):
        assert set(found.labels.tolist()) == {-1}
        assert (found.labels.dtype, found.class_names) == (np.int32, ())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("./nowhere", "--unlabelled=./nowhere: there is no such folder"),
        ("trian", "trian"),
        ("empty", "holds no images"),
    ],
)
def test_unlabelled_images_that_are_nowhere_are_refused(place, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        data.load_unlabelled("digits", place)


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


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("cifar1O", "'cifar1O': did you mean 'cifar10'"),
        ("zzzzqqqq", "'zzzzqqqq'.*no such folder"),
        ("my/pictures", "my/pictures.*no such folder"),
        ("./nowhere", "--dataset=./nowhere: there is no such folder"),
        ("~/nowhere/at/all", "--dataset=~/nowhere/at/all: there is no such folder"),
        ("", "--dataset is empty"),
        ("imagenet_resized/99x99", "imagenet_resized/99x99"),
        ("imdb_reviews", "imdb_reviews .*only image classification"),
        ("coco", "coco .*only image classification"),
        ("imagenet2012", "imagenet2012 is not in .*--data_dir"),
    ],
)
def test_a_name_of_no_data_is_an_input_error(dataset: str, words: str, pets, tmp_path, monkeypatch):
    monkeypatch.chdir(pets)
    with pytest.raises(InputError, match=words) as caught:
        data.load(dataset, "train", data_dir=str(tmp_path / "none"))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert not list(tmp_path.rglob("*.tfrecord*"))


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
        ("mnist:3.0.1", True),
        ("emnist/letters", True),
        ("cifar10", False),
        ("./digits", False),
    ],
)
def test_characters_have_a_direction(dataset: str, expected: bool) -> None:
    assert data.has_direction(dataset) is expected


def test_cifar10_is_what_tfds_loads(cifar10_dir: str) -> None:
    images = data.load("cifar10", "train[:100]", data_dir=cifar10_dir)
    pixels, labels = tfds.load(
        "cifar10",
        split="train[:100]",
        data_dir=cifar10_dir,
        as_supervised=True,
        batch_size=-1,
        download=False,
    )
    np.testing.assert_array_equal(images.pixels, pixels)
    np.testing.assert_array_equal(images.labels, labels)
    names = "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
    assert ", ".join(images.class_names) == names


def test_a_split_of_a_tfds_set_is_read_in_order_with_its_fine_classes(tfds_dir: str) -> None:
    images = data.load("cifar100", "train[4:]+train[:1]", data_dir=tfds_dir)
    assert values(images) == [4, 5, 0]
    assert images.labels.tolist() == [95, 94, 99]
    assert images.name(2) == "train[4:]+train[:1][2]"
    assert images.class_names == tuple(f"fine_{i}" for i in range(100))


def test_grayscale_images_become_rgb(tfds_dir: str) -> None:
    images = data.load("mnist", "train", data_dir=tfds_dir)
    np.testing.assert_array_equal(images.pixels, [np.repeat(noise(28, 28, 1), 3, axis=-1)])


def test_tfds_images_of_unlike_sizes_need_image_size(tfds_dir: str) -> None:
    with pytest.raises(InputError, match=r": train\[2\] has 21x20 .* 20x20.*--image_size"):
        data.load("tf_flowers", "train", data_dir=tfds_dir)
    images = data.load("tf_flowers", "train", data_dir=tfds_dir, image_size=6)
    assert images.pixels.shape == (4, 6, 6, 3)
    assert values(images) == [0, 1, 2, 3]


def test_labels_that_are_withheld_are_an_input_error(tmp_path: pathlib.Path) -> None:
    examples = [{"image": noise(8, 8), "label": label} for label in (0, -1, -1, -1)]
    store_tfds(str(tmp_path), "tf_flowers", examples)
    words = r"tf_flowers: 3 of the 4 images of the split 'train' have no label of the 5"
    with pytest.raises(InputError, match=words):
        data.load("tf_flowers", "train", data_dir=str(tmp_path))
