"""What lies on the disk: a pack's images, a state's values, and how a file is written."""

import io
import itertools
import os
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class BundleError(Exception):
    """A run cannot begin or go on; the message is one line for a person to read."""


class Images(NamedTuple):
    """A labelled set of images: `[N, H, W, 3]` uint8, and `[N]` int32; its name in TFDS syntax."""

    pixels: Any
    labels: Any
    split: str


def unpack(path: pathlib.Path) -> dict[str, Images]:
    """The splits of a pack, whose format pack.py states, decoded: "train", "test" and, if it has
    such images, "validation".

    Raises:
      BundleError: the file is no pack, or its images differ in size.
    """
    splits = {}
    try:
        with np.load(path) as pack:
            held_out = ["validation"] * ("validation_bytes" in pack)
            for split in ("train", "test", *held_out):
                content = pack[f"{split}_bytes"].tobytes()
                ends = np.cumsum(pack[f"{split}_sizes"], dtype=np.int64)
                pairs = itertools.pairwise([0, *ends.tolist()])
                pixels = np.stack([_decode(content[start:end]) for start, end in pairs])
                labels = pack[f"{split}_labels"].astype(np.int32)
                splits[split] = Images(pixels, labels, str(pack[f"{split}_split"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be unpacked: {error}") from error
    return splits


def check(index: dict[str, Any], splits: dict[str, Images]) -> None:
    """Raise `BundleError` if a bundle cannot be trained and evaluated on these images."""
    needed = index["programs"]["train_step"]["inputs"][0][0][1:]
    for name, split in splits.items():
        if list(split.pixels.shape[1:]) != needed:
            raise BundleError(f"the {name} images are {split.pixels.shape[1:]}, not {needed}")
        classes = len(index["class_names"])
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise BundleError(f"the {name} labels are {low} to {high}, for {classes} classes")
    found, wanted = len(splits["train"].labels), index["train_images"]
    if found != wanted:
        raise BundleError(
            f"an epoch of this bundle is of {wanted} images and the pack has {found} to train on: "
            "make the bundle with --validation_fraction=0 and pack the same split"
        )


def read_state(path: pathlib.Path, wanted: dict[str, list]) -> dict[str, np.ndarray]:
    """The variables' values that `Bundle.save` or write_bundle.py wrote, by name.

    Args:
      path: an .npz file.
      wanted: by name, the shape and dtype of each that a bundle has.

    Raises:
      BundleError: the file cannot be read, or is of another bundle.
    """
    try:
        with np.load(path) as file:
            values = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    found = {name: [list(value.shape), value.dtype.name] for name, value in values.items()}
    odd = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if odd:
        raise BundleError(
            f"{path} is of another bundle: {odd[0]} is {found.get(odd[0], 'missing')} where this "
            f"one has {wanted.get(odd[0], 'nothing')}"
        )
    return values


def write(path: pathlib.Path, content: bytes) -> None:
    """Write a file, all or nothing."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from error


def _decode(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
