"""Data sets of TFDS."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.pictures import noise, store_tfds, values
from tf_cutnmix import data
from tf_cutnmix.errors import InputError


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
    assert images.pixels.shape == (100, 32, 32, 3)
    assert images.pixels.dtype == np.uint8
    np.testing.assert_array_equal(images.pixels, pixels)
    np.testing.assert_array_equal(images.labels, labels)
    names = "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
    assert ", ".join(images.class_names) == names


def test_cifar100_has_its_hundred_fine_classes(tfds_dir: str) -> None:
    images = data.load("cifar100", "train", data_dir=tfds_dir)
    assert images.pixels.shape == (6, 32, 32, 3)
    assert values(images) == [0, 1, 2, 3, 4, 5]
    assert images.labels.tolist() == [99, 98, 97, 96, 95, 94]
    assert images.class_names == tuple(f"fine_{i}" for i in range(100))


def test_a_split_of_a_tfds_set_is_read_in_order(tfds_dir: str) -> None:
    images = data.load("cifar100", "train[4:]+train[:1]", data_dir=tfds_dir)
    assert values(images) == [4, 5, 0]


def test_grayscale_images_become_rgb(tfds_dir: str) -> None:
    images = data.load("mnist", "train", data_dir=tfds_dir)
    np.testing.assert_array_equal(images.pixels, [np.repeat(noise(28, 28, 1), 3, axis=-1)])
    assert images.labels.tolist() == [3]


def test_tfds_images_of_unlike_sizes_need_image_size(tfds_dir: str) -> None:
    with pytest.raises(InputError, match=r"image 2 of tf_flowers has 21x20 .* 20x20.*--image_size"):
        data.load("tf_flowers", "train", data_dir=tfds_dir)
    images = data.load("tf_flowers", "train", data_dir=tfds_dir, image_size=6)
    assert images.pixels.shape == (4, 6, 6, 3)
    assert values(images) == [0, 1, 2, 3]
    assert images.class_names == ("dandelion", "daisy", "tulips", "sunflowers", "roses")


@pytest.mark.parametrize("withheld", [1, 3])
def test_labels_that_are_withheld_are_an_input_error(withheld: int, tmp_path: pathlib.Path) -> None:
    labels = [0, 4, 2, 1][: 4 - withheld] + [-1] * withheld
    examples = [{"image": noise(8, 8), "label": label} for label in labels]
    store_tfds(str(tmp_path), "tf_flowers", examples)
    told = rf"tf_flowers: {withheld} of the 4 images of the split 'train' have no label of the 5"
    with pytest.raises(InputError, match=told):
        data.load("tf_flowers", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize("dataset", ["imdb_reviews", "coco", "div2k"])
def test_only_image_classification_can_be_trained(dataset: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=f"{dataset} .*only image classification"):
        data.load(dataset, "train", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir()), "nothing is downloaded to find that out"


def test_an_unknown_version_of_a_tfds_set_is_an_input_error() -> None:
    with pytest.raises(InputError, match="imagenet_resized/99x99"):
        data.load("imagenet_resized/99x99", "train")


def test_data_that_cannot_be_fetched_point_to_data_dir(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"imagenet2012 is not in .*--data_dir") as caught:
        data.load("imagenet2012", "train", data_dir=str(tmp_path))
    assert str(tmp_path) in str(caught.value)
