"""A data set of TensorFlow Datasets, by its name."""

import itertools
import pathlib
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_datasets as tfds

from tf_cutnmix import files
from tf_cutnmix.data.images import Example, Source, prepare
from tf_cutnmix.data.splits import some
from tf_cutnmix.errors import InputError, first_line, unknown


def knows(dataset: str) -> bool:
    """Whether TFDS has a data set of this name."""
    name = dataset.split("/")[0].split(":")[0]
    return name in tfds.list_builders(with_community_datasets=False)


def source(dataset: str, split: str, data_dir: str, image_size: int) -> Source:
    """One split; downloads the data set where it is not there yet.

    Raises:
      InputError: there is no such data set or split, or it does not classify images.
    """
    files.check_names(pathlib.Path(data_dir))
    try:
        builder = tfds.builder(dataset, data_dir=data_dir or None, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        names = tfds.list_builders(with_community_datasets=False)
        problem = unknown("dataset", dataset, [*names, "digits"])
        raise InputError(f"{problem} (and there is no such folder)") from None
    except (ValueError, AssertionError, ImportError) as error:
        raise InputError(f"--dataset={dataset}: {first_line(error)}") from error
    image, label = _image_and_label(builder)
    _make_ready(builder)
    try:
        count = some(builder.info.splits[split].num_examples)
    except ValueError as error:
        raise InputError(f"{dataset}: {first_line(error)}") from error

    def examples() -> Iterator[Example]:
        stored = builder.as_dataset(split=split, shuffle_files=False)
        prepared = stored.map(
            lambda example: (prepare(example[image], image_size), example[label]),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return itertools.starmap(Example, prepared.as_numpy_iterator())

    return Source(
        dataset,
        examples,
        count,
        tuple(builder.info.features[label].names),
        lambda i: f"image {i} of {dataset}",
        lambda: [builder.info.full_name, *_files(builder)],
    )


def _files(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Names, sizes and dates: two folders may hold other images by one name and version."""
    paths = sorted(path for path in pathlib.Path(builder.data_dir).iterdir() if path.is_file())
    return [files.identity(path, path.name) for path in paths]


def _image_and_label(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The names of the two features that make a classification data set."""
    features = builder.info.features
    image, label = builder.info.supervised_keys or ("image", "label")
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    for name, kind in zip((image, label), kinds, strict=True):
        if not (name in features and isinstance(features[name], kind)):
            raise InputError(
                f"--dataset={builder.name} has no {kind.__name__} feature {name!r}: "
                f"only image classification can be trained, its features are {list(features)}"
            )
    return image, label


def _make_ready(builder: tfds.core.DatasetBuilder) -> None:
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(
            f"{builder.name} is not in {builder.data_dir} and could not be put there: "
            f"{first_line(error)}; if you have it, name its folder with --data_dir"
        ) from error
