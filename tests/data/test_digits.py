"""scikit-learn's digits."""

import numpy as np
import pytest
import sklearn.datasets

from tf_cutnmix import data


@pytest.fixture(scope="module")
def digits_train() -> data.Images:
    return data.load("digits", "train")


def test_digits_are_those_of_scikit_learn(digits_train: data.Images) -> None:
    source = sklearn.datasets.load_digits()
    expected = np.round(source.images[:1437] / 16 * 255)
    assert digits_train.pixels.shape == (1437, 8, 8, 3)
    assert digits_train.pixels.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(digits_train.pixels[..., channel], expected)
    np.testing.assert_array_equal(digits_train.labels, source.target[:1437])
    assert digits_train.labels.dtype == np.int32
    assert digits_train.class_names == tuple("0123456789")


def test_the_last_360_digits_are_the_test_split() -> None:
    source = sklearn.datasets.load_digits()
    test = data.load("digits", "test")
    assert test.pixels.shape == (360, 8, 8, 3)
    np.testing.assert_array_equal(test.labels, source.target[-360:])
    np.testing.assert_array_equal(test.pixels[..., 0], np.round(source.images[-360:] / 16 * 255))


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ("train[:20]", slice(0, 20)),
        ("train[75%:]", slice(1078, 1437)),
        ("train[-10:]", slice(1427, 1437)),
    ],
)
def test_digits_take_tfds_splits(split: str, part: slice, digits_train: data.Images) -> None:
    images = data.load("digits", split)
    np.testing.assert_array_equal(images.pixels, digits_train.pixels[part])
    np.testing.assert_array_equal(images.labels, digits_train.labels[part])


def test_image_size_resizes_digits(digits_train: data.Images) -> None:
    images = data.load("digits", "train[:5]", image_size=12)
    np.testing.assert_array_equal(images.pixels, data.resize(digits_train.pixels[:5], (12, 12)))
