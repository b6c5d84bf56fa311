"""Small images, folders of them and TFDS sets for the tests of data."""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_cutnmix import data

tfds.disable_progress_bar()


def plain(value: int, height: int = 4, width: int = 5, channels: int = 3) -> np.ndarray:
    return np.full((height, width, channels), value, np.uint8)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), np.uint8)


def write(path: pathlib.Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(image).numpy())


def write_class(folder: pathlib.Path, values: range) -> None:
    """One plain image for each value, in files whose order is that of the values."""
    for value in values:
        write(folder / f"{value:03}.png", plain(value))


def values(images: data.Images) -> list[int]:
    """What the plain images of a folder are filled with."""
    return images.pixels[:, 0, 0, 0].tolist()


def numbered(count: int) -> data.Images:
    """Images whose pixels and labels are their positions."""
    positions = np.arange(count)
    pixels = np.broadcast_to(positions[:, None, None, None], (count, 2, 3, 3)).astype(np.uint8)
    return data.Images(pixels, positions.astype(np.int32), ("a", "b"))


def store_tfds(folder: str, name: str, examples: list[dict], names: list[str] = ()) -> None:
    builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    features = builder.info.features
    if names:
        features["label"].names = names
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(examples), output_signature=dict(features.get_tensor_spec())
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=str(builder.version),
        data_dir=folder,
        features=features,
        split_datasets={"train": dataset},
        disable_shuffling=True,
    )
