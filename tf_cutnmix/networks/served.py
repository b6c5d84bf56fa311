"""An export of this package, loaded again."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_cutnmix import exports, files
from tf_cutnmix.errors import InputError, first_line, listed
from tf_cutnmix.escaping import composed


class Served(NamedTuple):
    """A loaded export.

    Attributes:
      model: what was loaded; the signature's variables live as long as it does.
      predict: the serving signature.
      class_names: of the `K` classes.
      image_size: what it resizes images to, as "<width>x<height>"; 0 where it does not say.
      resize: how, one of `data.resizing.RESIZINGS`.
    """

    model: Any
    predict: Callable[..., dict[str, tf.Tensor]]
    class_names: tuple[str, ...]
    image_size: int | str
    resize: str


def load(folder: str, flag: str) -> Served:
    """Load an export.

    A SavedModel is a program: whoever made it decides what its graph does with your files.

    Args:
      folder: as `exports.find` has it: of a version, of a name or of a run.
      flag: that named the folder, for the errors.

    Raises:
      InputError: the folder is no export of this package.
    """
    path = exports.find(folder, flag)
    try:
        with files.no_pattern(path) as place:
            model = tf.saved_model.load(str(place))
        predict = model.signatures["serving_default"]
        names = path / "assets" / "class_names.txt"
        class_names = tuple(names.read_text().splitlines() if names.is_file() else ())
        _check_signature(predict, len(class_names))
        record, size, resize = path / "assets" / "export.json", "", "squash"
        if record.exists():
            sides = json.loads(record.read_text())["input"]
            size = f"{int(sides['width'])}x{int(sides['height'])}"
            resize = str(sides.get("resize", resize))
    # Whatever a file of somebody else's has TensorFlow raise.
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"--{flag}={folder} is no export of tf_cutnmix: {reason}") from error
    return Served(model, predict, class_names, size or 0, resize)


def _check_signature(predict: Any, classes: int) -> None:
    """Raise a `ValueError` unless it takes images and answers with probabilities of the classes."""
    images = predict.structured_input_signature[1].get("images")
    if images is None or images.dtype != tf.uint8 or images.shape.rank != 4:
        raise ValueError("its serving signature takes no images [N, H, W, C] uint8")
    answer = predict.structured_outputs.get("probabilities")
    if answer is None or answer.dtype != tf.float32 or answer.shape.rank != 2:
        raise ValueError("its serving signature answers without probabilities [N, K] float32")
    if not classes or answer.shape[1] not in (None, classes):
        raise ValueError(
            f"assets/class_names.txt names {classes} classes for probabilities {answer.shape}"
        )


def columns(export: str, found: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """For each class of some data, its column in an export's predictions.

    Args:
      export: what it is called in the error.
      found: its classes.
      wanted: the data's.

    Raises:
      InputError: the two do not name the same classes.
    """
    ours, theirs = list(map(composed, found)), list(map(composed, wanted))
    more, missing = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
    if more or missing:
        has, have = (listed(list(map(repr, sorted(names))), 5) for names in (more, missing))
        raise InputError(
            f"{export} and the data name their classes otherwise: it has {has or 'no others'}, "
            f"they have {have or 'no others'}; rename them, or pass --classes_by_position if "
            "they are the same in the same order"
        )
    return [ours.index(name) for name in theirs]
