"""From the name of a data set to its images."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np
import psutil
import sklearn

from tf_cutnmix import places
from tf_cutnmix.data import cache, folder, resizing, table, tfds
from tf_cutnmix.data.images import Images, Source, collect, in_memory
from tf_cutnmix.data.resizing import Target, prepare
from tf_cutnmix.data.splits import select
from tf_cutnmix.errors import InputError

# The last of the digits are the test split.
_TEST = 360
_CHARACTERS = ("digits", "mnist", "emnist", "kmnist", "svhn_cropped", "omniglot")
# Of an image that is resized: three channels as float32 before and after rounding, and as uint8.
_BYTES_PER_PIXEL = 27


def load(
    dataset: str,
    split: str,
    *,
    data_dir: str = "",
    image_size: int | str = 0,
    resize: str = "squash",
    cache_dir: str = "",
) -> Images:
    """Read one split of a data set.

    Args:
      dataset: "digits", a folder, a CSV file, or the name of a TFDS image-classification data set.
      split: TFDS split syntax, for every kind of source: "train", "train[:2000]", "train+test".
      data_dir: where TFDS looks; its own default if empty.
      image_size: pixels a side that the images are resized to, or width and height as "96x64"; 0
        keeps them as stored.
      resize: how, of `resizing.RESIZINGS`.
      cache_dir: where they are kept for later runs, or found; empty: nowhere.

    A folder holds either class sub-folders with images, of which every fifth image in the
    order of the names is the test split, or one folder of class sub-folders for each split
    (`train`, `validation`, `test`). A CSV file is as `table.layout` has it. Of the digits the last
    360 are the test split.

    Raises:
      InputError: the data cannot be found, read or used as they are.
    """
    if not dataset:
        raise InputError(
            "--dataset is empty: name 'digits', a TFDS data set, a folder or a CSV file"
        )
    target = resizing.target(image_size, resize)
    needed = target.height * target.width * _BYTES_PER_PIXEL if target else 0
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"--image_size={image_size}: one image takes {needed / 2**30:.1f} GiB while it is "
            f"resized, and {free / 2**30:.1f} GiB are free: lower it"
        )
    source = _source(dataset, split, data_dir, target)
    images = _read(source, split, target, cache_dir)
    if len(images.class_names) < 2:
        raise InputError(f"{dataset} holds one class, {images.class_names[0]!r}: 2 are needed")
    wrong = (images.labels < 0) | (images.labels >= len(images.class_names))
    if wrong.any():
        raise InputError(
            f"{dataset}: {wrong.sum()} of the {len(wrong)} images of the split {split!r} have no "
            f"label of the {len(images.class_names)} classes, such as {images.labels[wrong][0]}: "
            "it may be withheld, name a split that has labels"
        )
    return images._replace(labels=images.labels.astype(np.int32))


def load_unlabelled(
    dataset: str,
    place: str,
    *,
    data_dir: str = "",
    image_size: int | str = 0,
    resize: str = "squash",
    cache_dir: str = "",
) -> Images:
    """Read images whose labels, if they have any, are never looked at.

    Args:
      dataset: as of `load`, and so are the others.
      place: a folder with pictures at any depth, or a split of the data set in TFDS syntax.

    Raises:
      InputError: they cannot be found or read.
    """
    path, target = pathlib.Path(os.path.expanduser(place)), resizing.target(image_size, resize)
    if path.is_dir():
        source = folder.unlabelled(path, target)
    elif os.sep in place:
        raise InputError(f"--unlabelled={place}: there is no such folder")
    else:
        source = _source(dataset, place, data_dir, target)
    images = _read(source, place, target, cache_dir)
    return images._replace(labels=np.full(len(images.pixels), -1, np.int32), class_names=())


def own_validation(dataset: str) -> str:
    """The split of one's own pictures that is there to choose the best epoch on; "" if none is.

    Raises:
      InputError: their splits cannot be told apart.
    """
    if path := _folder(dataset):
        return "validation" if folder.has_validation(path) else ""
    path = places.table(dataset)
    return "validation" if path and "validation" in table.layout(path).splits else ""


def has_direction(dataset: str) -> bool:
    """Whether mirror images of this data set mean something else (it shows characters)."""
    return dataset.split("/")[0].split(":")[0] in _CHARACTERS


def _read(source: Source, split: str, target: Target | None, cache_dir: str) -> Images:
    if cache_dir:
        return cache.load(pathlib.Path(cache_dir), source, split, target)
    return collect(source, in_memory)


def _source(dataset: str, split: str, data_dir: str, target: Target | None) -> Source:
    if dataset == "digits":
        return _digits(split, target)
    if path := _folder(dataset):
        return folder.source(path, folder.layout(path), split, target)
    places.check_dataset(dataset)
    if path := places.table(dataset):
        return folder.source(path, table.layout(path), split, target)
    return tfds.source(dataset, split, data_dir, target)


def _folder(dataset: str) -> pathlib.Path | None:
    """The folder that the name of a data set stands for, if any."""
    path = pathlib.Path(os.path.expanduser(dataset))
    if dataset != "digits" and path.is_dir() and (os.sep in dataset or not tfds.knows(dataset)):
        return path
    return None


def _digits(split: str, target: Target | None) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    pixels = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    count = len(digits.target)
    splits = {"train": range(count - _TEST), "test": range(count - _TEST, count)}
    positions = select("digits", split, splits)

    def examples() -> Iterator[tuple[np.ndarray, int, bytes]]:
        for position in positions:
            yield np.asarray(prepare(pixels[position], target)), digits.target[position], b""

    return Source(
        "digits",
        examples,
        len(positions),
        tuple(str(name) for name in digits.target_names),
        lambda i: f"{split}[{i}]",
        lambda: [sklearn.__version__],
    )
