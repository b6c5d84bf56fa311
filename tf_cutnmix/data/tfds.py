"""A data set of TensorFlow Datasets, by its name."""

import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_cutnmix import files
from tf_cutnmix.data.images import Source
from tf_cutnmix.data.resizing import Target, prepare
from tf_cutnmix.data.splits import not_empty
from tf_cutnmix.errors import InputError, first_line, unknown


def knows(dataset: str) -> bool:
    """Whether TFDS has a data set of this name."""
    name = dataset.split("/")[0].split(":")[0]
    return name in tfds.list_builders(with_community_datasets=False)


def source(dataset: str, split: str, data_dir: str, target: Target | None) -> Source:
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
    features = builder.info.features
    image, label = builder.info.supervised_keys or ("image", "label")
    for name, kind in ((image, tfds.features.Image), (label, tfds.features.ClassLabel)):
        if not (name in features and isinstance(features[name], kind)):
            raise InputError(
                f"--dataset={builder.name} has no {kind.__name__} feature {name!r}: "
                f"only image classification can be trained, its features are {list(features)}"
            )
    try:
        builder.download_and_prepare()
        count = builder.info.splits[split].num_examples
    except ValueError as error:
        raise InputError(f"{dataset}: {first_line(error)}") from error
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(
            f"{builder.name} is not in {builder.data_dir} and could not be put there: "
            f"{first_line(error)}; if you have it, name its folder with --data_dir"
        ) from error

    def examples() -> Iterator[tuple[np.ndarray, int, bytes]]:
        stored = builder.as_dataset(split=split, shuffle_files=False)
        prepared = stored.map(
            lambda example: (prepare(example[image], target), example[label]),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return ((image, label, b"") for image, label in prepared.as_numpy_iterator())

    return Source(
        dataset,
        examples,
        not_empty(count),
        tuple(features[label].names),
        lambda i: f"{split}[{i}]",
        # Two folders may hold other images by one name and version.
        lambda: [
            files.identity(p, p.name) for p in sorted(pathlib.Path(builder.data_dir).glob("*"))
        ],
    )
