"""From the name of a data set to uint8 batches.

Every source ends as `Images`: all pixels of a split in one uint8 array, so that a batch is
a gather and the order of the batches a function of (seed, epoch) alone.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import psutil
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_cutnmix.errors import InputError, unknown

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_CHARACTERS = ("digits", "mnist", "emnist", "kmnist", "svhn_cropped", "omniglot")
_DIGITS_TEST = 360


class Images(NamedTuple):
    """A labelled set of images.

    Attributes:
      pixels: `[N, H, W, 3]` uint8; memory-mapped from disk where it would fill the memory.
      labels: `[N]` int32, the positions of the classes in `class_names`.
      class_names: at least two.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def select(self, positions: np.ndarray) -> "Images":
        """Some of the images, as a copy."""
        pixels = _allocate((len(positions), *self.pixels.shape[1:]))
        # mode="clip" fills the array in place; the default would first make it in memory.
        np.take(self.pixels, positions, axis=0, out=pixels, mode="clip")
        return self._replace(pixels=pixels, labels=self.labels[positions])


def load(dataset: str, split: str, *, data_dir: str = "", image_size: int = 0) -> Images:
    """Read one split of a data set.

    Args:
      dataset: "digits", a folder, or the name of a TFDS image-classification data set.
      split: TFDS split syntax, for every kind of source: "train", "train[:2000]", "train+test".
      data_dir: where TFDS looks; its own default if empty.
      image_size: pixels a side that the images are resized to; 0 keeps them as stored.

    A folder holds either class sub-folders with images, of which every fifth image in the
    order of the names is the test split, or one folder of class sub-folders for each split
    (`train`, `test`). Of the digits the last 360 are the test split.

    Raises:
      InputError: the data cannot be found, read or used as they are.
    """
    if not dataset:
        raise InputError("--dataset is empty: name 'digits', a TFDS data set or a folder")
    path = pathlib.Path(dataset).expanduser()
    if dataset == "digits":
        images = _load_digits(split, image_size)
    elif path.is_dir() and (os.sep in dataset or not _in_tfds(dataset)):
        images = _load_folder(path, split, image_size)
    elif dataset.startswith((".", "~", os.sep)):
        raise InputError(f"--dataset={dataset}: there is no such folder")
    else:
        images = _load_tfds(dataset, split, data_dir, image_size)
    if len(images.class_names) < 2:
        raise InputError(f"{dataset} holds one class, {images.class_names[0]!r}: 2 are needed")
    return images


def has_direction(dataset: str) -> bool:
    """Whether mirror images of this data set mean something else (it shows characters)."""
    return dataset.split("/")[0].split(":")[0] in _CHARACTERS


def hold_out(images: Images, fraction: float) -> tuple[Images, Images]:
    """Cut a validation set from a training set, the same one for every seed.

    Args:
      images: `N` of them.
      fraction: in [0, 1); `round(fraction * N)` images are held out.

    Returns:
      The rest for training, and the validation set.
    """
    order = np.random.default_rng(0).permutation(len(images.pixels))
    count = round(fraction * len(order))
    return images.select(np.sort(order[count:])), images.select(np.sort(order[:count]))


def shuffled_batches(
    images: Images, batch_size: int, *, seed: int, first_epoch: int = 0
) -> tf.data.Dataset:
    """Endless training batches `([B, H, W, 3] uint8, [B] int32)`, of no more than all images.

    The order within epoch e is a function of (seed, e): a run that starts at `first_epoch`
    sees what a run from the start would see from there on. The remainder that does not fill
    a batch is left out, another one in each epoch.
    """
    steps = len(images.pixels) // batch_size

    def order(epoch: np.ndarray) -> np.ndarray:
        positions = np.random.default_rng((seed, int(epoch))).permutation(len(images.pixels))
        return positions[: steps * batch_size].reshape(steps, batch_size)

    def epoch_of_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        positions = tf.numpy_function(order, [epoch], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(positions, [steps, batch_size]))

    positions = tf.data.Dataset.counter(first_epoch).flat_map(epoch_of_batches)
    return _gather(images, positions)


def ordered_batches(images: Images, batch_size: int) -> tf.data.Dataset:
    """All images once, in their order, the last batch as small as it comes."""
    return _gather(images, tf.data.Dataset.range(len(images.pixels)).batch(batch_size))


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resize uint8 `[..., H, W, C]` to `(height, width)`, anti-aliased, rounded back to uint8."""
    images = tf.convert_to_tensor(images)
    # TensorFlow itself skips this for a static size alone; an export takes images of any size.
    resized = tf.cond(
        tf.reduce_all(tf.shape(images)[-3:-1] == size),
        lambda: images,
        lambda: tf.cast(tf.round(tf.image.resize(images, size, antialias=True)), tf.uint8),
    )
    return tf.ensure_shape(resized, [*images.shape[:-3], *size, images.shape[-1]])


def _gather(images: Images, positions: tf.data.Dataset) -> tf.data.Dataset:
    def rows(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = tf.numpy_function(
            lambda at: (images.pixels[at], images.labels[at]), [batch], [tf.uint8, tf.int32]
        )
        pixels.set_shape([*batch.shape, *images.pixels.shape[1:]])
        labels.set_shape(batch.shape)
        return pixels, labels

    batches = positions.map(rows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def _load_digits(split: str, image_size: int) -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = tf.constant(np.round(digits.images[..., np.newaxis] * (255 / 16)), tf.uint8)
    count = len(digits.target)
    splits = {"train": range(count - _DIGITS_TEST), "test": range(count - _DIGITS_TEST, count)}
    positions = _select("digits", split, splits)
    examples = ((_prepare(pixels[i], image_size).numpy(), digits.target[i]) for i in positions)
    names = tuple(str(name) for name in digits.target_names)
    return _collect(examples, len(positions), names, lambda i: f"digit {positions[i]}")


def _load_folder(path: pathlib.Path, split: str, image_size: int) -> Images:
    class_names, splits = _list_folder(path)
    files = _select(str(path), split, splits)
    paths = [str(file) for file, _ in files]

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_image(tf.io.read_file(file), channels=3, expand_animations=False)
        return _prepare(image, image_size), label

    examples = tf.data.Dataset.from_tensor_slices((paths, [label for _, label in files]))
    examples = examples.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _collect(examples.as_numpy_iterator(), len(files), class_names, paths.__getitem__)


def _list_folder(path: pathlib.Path) -> tuple[tuple[str, ...], dict[str, list]]:
    """The class names, and for each split its files with their labels."""
    if (path / "train").is_dir():
        tree = {folder.name: _list_classes(folder) for folder in _subfolders(path)}
        class_names = tuple(tree["train"])
        for name, classes in tree.items():
            if tuple(classes) != class_names:
                odd = sorted(set(classes) ^ set(class_names))
                raise InputError(f"{path}: train and {name} differ in the classes {odd}")
    else:
        classes = _list_classes(path)
        class_names = tuple(classes)
        tree = {
            "train": {c: [f for i, f in enumerate(fs) if i % 5 != 4] for c, fs in classes.items()},
            "test": {c: fs[4::5] for c, fs in classes.items()},
        }
    return class_names, {
        split: [(file, label) for label, files in enumerate(by_class.values()) for file in files]
        for split, by_class in tree.items()
    }


def _subfolders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _is_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in _IMAGE_ENDINGS and not path.name.startswith(".")


def _list_classes(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    classes = {
        folder.name: sorted(file for file in folder.iterdir() if _is_image(file))
        for folder in _subfolders(path)
    }
    if not classes:
        raise InputError(f"{path} holds no class sub-folders: put each class's images into one")
    for name, files in classes.items():
        if not files:
            raise InputError(f"{path / name} holds no images ({', '.join(_IMAGE_ENDINGS)})")
    return classes


def _in_tfds(dataset: str) -> bool:
    name = dataset.split("/")[0].split(":")[0]
    return name in tfds.list_builders(with_community_datasets=False)


def _load_tfds(dataset: str, split: str, data_dir: str, image_size: int) -> Images:
    try:
        builder = tfds.builder(dataset, data_dir=data_dir or None, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        names = tfds.list_builders(with_community_datasets=False)
        problem = unknown("dataset", dataset, [*names, "digits"])
        raise InputError(f"{problem} (and there is no such folder)") from None
    except (ValueError, AssertionError, ImportError) as error:
        raise InputError(f"--dataset={dataset}: {_first_line(error)}") from error
    image, label = _image_and_label(builder)
    _prepare_builder(builder)
    try:
        count = _some(builder.info.splits[split].num_examples)
    except ValueError as error:
        raise InputError(f"{dataset}: {_first_line(error)}") from error
    class_names = tuple(builder.info.features[label].names)
    examples = builder.as_dataset(split=split, shuffle_files=False).map(
        lambda example: (_prepare(example[image], image_size), example[label]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return _collect(
        examples.as_numpy_iterator(), count, class_names, lambda i: f"image {i} of {dataset}"
    )


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


def _prepare_builder(builder: tfds.core.DatasetBuilder) -> None:
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(
            f"{builder.name} is not in {builder.data_dir} and could not be put there: "
            f"{_first_line(error)}; if you have it, name its folder with --data_dir"
        ) from error


def _prepare(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """One image of any number of channels as RGB, resized if asked."""
    image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image[..., :3]
    return resize(image, (image_size, image_size)) if image_size else image


def _select(dataset: str, split: str, splits: Mapping[str, Iterable]) -> list:
    """The elements that a split in TFDS syntax names."""
    elements = {name: list(part) for name, part in splits.items()}
    sizes = {
        name: tfds.core.SplitInfo(
            name=name, shard_lengths=[len(part)], num_bytes=0, filename_template=None
        )
        for name, part in elements.items()
    }
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:
        raise InputError(f"{dataset}: {_first_line(error)}") from error
    chosen = [e for part in instructions for e in elements[part.splitname][part.from_ : part.to]]
    _some(len(chosen))
    return chosen


def _some(count: int) -> int:
    if not count:
        raise InputError("the split selects no images: widen --train_split or --test_split")
    return count


def _collect(
    examples: Iterable[tuple[np.ndarray, int]],
    count: int,
    class_names: tuple[str, ...],
    name: Callable[[int], str],
) -> Images:
    """Put examples into one array; `name(i)` is what an error calls example i."""
    labels = np.empty(count, np.int32)
    pixels, position = None, 0
    try:
        for position, (image, label) in enumerate(examples):
            if pixels is None:
                pixels = _allocate((count, *image.shape))
            if image.shape != pixels.shape[1:]:
                raise InputError(
                    f"{name(position)} has {_size(image)} pixels and the images before it "
                    f"{_size(pixels[0])}: pass --image_size to resize them all"
                )
            pixels[position], labels[position] = image, label
    except tf.errors.OpError as error:
        broken = position if pixels is None else position + 1
        raise InputError(f"{name(broken)} cannot be read: it is no whole image") from error
    return Images(pixels, labels, class_names)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """An array in memory, or on disk where it would take more than half of what is free."""
    size = int(np.prod(shape, dtype=np.int64))
    if size <= psutil.virtual_memory().available // 2:
        return np.empty(shape, np.uint8)
    free = psutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise InputError(
            f"the images take {size / 2**30:.1f} GiB, more than half of the free memory and more "
            f"than {tempfile.gettempdir()} has: lower --image_size or select fewer images"
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, mode="w+", shape=shape)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
