"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import pathlib

import tensorflow as tf

from tf_cutnmix.data.images import Images, collect, prepare
from tf_cutnmix.data.splits import select
from tf_cutnmix.errors import InputError

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def load(path: pathlib.Path, split: str, image_size: int) -> Images:
    """Read one split.

    Raises:
      InputError: the folder is of neither kind, or a picture cannot be read.
    """
    class_names, splits = _list_folder(path)
    files = select(str(path), split, splits)
    paths = [str(file) for file, _ in files]

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_image(tf.io.read_file(file), channels=3, expand_animations=False)
        return prepare(image, image_size), label

    examples = tf.data.Dataset.from_tensor_slices((paths, [label for _, label in files]))
    examples = examples.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return collect(examples.as_numpy_iterator(), len(files), class_names, paths.__getitem__)


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


def _list_classes(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    classes = {
        folder.name: sorted(file for file in folder.iterdir() if _is_image(file))
        for folder in _subfolders(path)
    }
    if not classes:
        raise InputError(f"{path} holds no class sub-folders: put each class's images into one")
    for name, files in classes.items():
        if not files:
            raise InputError(f"{path / name} holds no images ({', '.join(_ENDINGS)})")
    return classes


def _is_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in _ENDINGS and not path.name.startswith(".")
