"""Pack a data set for run_bundle: `python -m benchmarks.gpu.pack --dataset=cifar10 OUT.npz`.

A pack is an .npz file that NumPy and Pillow can read: for `train`, `test` and, if asked for,
`validation` each `<split>_split`, its name in TFDS syntax; `<split>_bytes`, uint8, the images as
they are stored, JPEG or PNG, one after the other; `<split>_sizes`, int32 `[N]`, how many bytes each
takes; `<split>_labels`, int32 `[N]`; and `class_names`. The images keep the order of
`tf_cutnmix.data.load`.
"""

import dataclasses
import io
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_cutnmix import command, data, files
from tf_cutnmix.errors import InputError
from tf_cutnmix.settings import PIXELS, check, setting

SUMMARY = """\
Packs the images of a data set, its training and its test split, into one file that run_bundle
reads without TensorFlow: as they are stored, if TFDS has them as JPEG or PNG, or with --image_size
those of any data set of tf_cutnmix.train, resized."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to pack.

    Raises:
      InputError: a setting is missing.
    """

    out: tuple[str, ...] = setting((), "output", "the file to write: NAME.npz", positional=True)
    dataset: str = setting(
        "cifar10", "data", "a data set of TFDS; with --image_size also a folder, or digits"
    )
    data_dir: str = setting("", "data", "where TFDS keeps its data (TFDS's own default if empty)")
    train_split: str = setting("train", "data", "split to train on, in TFDS syntax")
    test_split: str = setting("test", "data", "split to evaluate on")
    validation_split: str = setting("", "data", "a further split to evaluate on, if any")
    image_size: int | str = setting(
        0,
        "data",
        "resize images to this many pixels a side, or to width x height, and store them as PNG; "
        "0: as stored",
        rule=PIXELS,
    )
    resize: str = setting(
        "squash", "data", "how, as of tf_cutnmix.train", choices=("squash", "crop", "pad")
    )

    def __post_init__(self) -> None:
        check(self)
        if len(self.out) != 1 or not self.out[0].endswith(".npz"):
            raise InputError(f"name one file to write that ends in .npz, not {self.out}")


class Encoded(NamedTuple):
    """A split: each image's bytes, and its label; its name in TFDS syntax."""

    images: Sequence[bytes]
    labels: Sequence[int]
    split: str


def main(settings: Settings) -> None:
    """Write the pack and print what it holds.

    Raises:
      InputError: the data cannot be found, or are neither JPEG nor PNG; nothing was written.
    """
    wanted = {"train": settings.train_split, "test": settings.test_split}
    if settings.validation_split:
        wanted["validation"] = settings.validation_split
    read_all = _resized if settings.image_size else _stored
    splits, names = read_all(settings, wanted)
    write(pathlib.Path(settings.out[0]), splits, names)
    print(f"{settings.out[0]}: {', '.join(f'{n} {len(s.labels)}' for n, s in splits.items())}")


def _stored(
    settings: Settings, wanted: Mapping[str, str]
) -> tuple[dict[str, Encoded], Sequence[str]]:
    """The splits as TFDS stores them, and the names of the classes."""
    try:
        builder = tfds.builder(settings.dataset, data_dir=settings.data_dir or None, try_gcs=False)
        builder.download_and_prepare()
        splits = {name: read(builder, split) for name, split in wanted.items()}
    except InputError:
        raise
    except (ValueError, OSError, tfds.core.DatasetNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--dataset={settings.dataset}: {reason}") from error
    return splits, builder.info.features[builder.info.supervised_keys[1]].names


def _resized(
    settings: Settings, wanted: Mapping[str, str]
) -> tuple[dict[str, Encoded], Sequence[str]]:
    """The splits as a run reads them, and the names of the classes."""
    splits, names = {}, ()
    for name, split in wanted.items():
        images = data.load(
            settings.dataset,
            split,
            data_dir=settings.data_dir,
            image_size=settings.image_size,
            resize=settings.resize,
        )
        encoded = [tf.io.encode_png(pixels).numpy() for pixels in images.pixels]
        splits[name], names = Encoded(encoded, images.labels.tolist(), split), images.class_names
    return splits, names


def read(builder: tfds.core.DatasetBuilder, split: str) -> Encoded:
    """The images of a split as they are stored, and their labels.

    Raises:
      InputError: the data set is not one for image classification.
    """
    keys = builder.info.supervised_keys
    if not keys or not isinstance(builder.info.features[keys[0]], tfds.features.Image):
        raise InputError(f"--dataset={builder.name} is none for image classification")
    image, label = keys
    examples = builder.as_dataset(
        split=split, shuffle_files=False, decoders={image: tfds.decode.SkipDecoding()}
    )
    rows = [(example[image], int(example[label])) for example in examples.as_numpy_iterator()]
    return Encoded([row[0] for row in rows], [row[1] for row in rows], split)


def write(path: pathlib.Path, splits: Mapping[str, Encoded], class_names: Sequence[str]) -> None:
    """Write a pack of the splits "train", "test" and perhaps "validation".

    Raises:
      InputError: a split is empty, or an image neither JPEG nor PNG.
      RunError: the file cannot be written.
    """
    arrays = {"class_names": np.array(class_names)}
    for name, split in splits.items():
        if not split.images:
            raise InputError(f"the {name} split holds no images")
        odd = [i for i, image in enumerate(split.images) if not image.startswith(_SIGNATURES)]
        if odd:
            raise InputError(f"image {odd[0]} of the {name} split is neither JPEG nor PNG")
        arrays[f"{name}_split"] = np.array(split.split)
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(split.images), np.uint8)
        arrays[f"{name}_sizes"] = np.array([len(image) for image in split.images], np.int32)
        arrays[f"{name}_labels"] = np.array(split.labels, np.int32)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # the JPEG headers are alike
    files.write(path, content.getvalue())


if __name__ == "__main__":
    sys.exit(command.run("benchmarks.gpu.pack", SUMMARY, Settings, main))
