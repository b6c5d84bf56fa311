"""The test predictions of a run in one file, to draw from without TensorFlow."""

import io
import pathlib
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from tf_cutnmix import files
from tf_cutnmix.errors import RunError
from tf_cutnmix.runs import scores

if TYPE_CHECKING:  # a report needs no TensorFlow
    from tf_cutnmix.data.images import Pixels

_MISTAKES = 12
_SIDE = 96
_NETWORK = "probabilities."


class Predictions(NamedTuple):
    """Predictions of the best epoch's networks on the test split.

    Attributes:
      probabilities: `[N, K]` float32 by the name of the network.
      labels: `[N]` int32.
      mistakes: `[M]`, positions of the teacher's surest mistakes, the surest first.
      pictures: `[M, H, W, 3]` uint8, the images at these positions, made smaller where large.
    """

    probabilities: dict[str, np.ndarray]
    labels: np.ndarray
    mistakes: np.ndarray
    pictures: np.ndarray


def collect(
    probabilities: Mapping[str, np.ndarray], pixels: "Pixels", labels: np.ndarray
) -> Predictions:
    """Predictions of images `[N, H, W, 3]` uint8, with those of the teacher's surest mistakes."""
    mistakes = scores.surest_mistakes(probabilities["teacher"], labels, _MISTAKES)
    height, width = pixels.shape[1:3]
    part = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * part)), max(1, round(height * part)))
    small = [np.asarray(Image.fromarray(pixels[k]).resize(size)) for k in mistakes]
    pictures = np.stack(small) if small else np.zeros((0, size[1], size[0], 3), np.uint8)
    return Predictions(dict(probabilities), labels, mistakes, pictures)


def save(path: pathlib.Path, predictions: Predictions) -> None:
    """Write predictions, all or nothing.

    Raises:
      RunError: the file cannot be written.
    """
    rest = predictions._asdict()
    named = {f"{_NETWORK}{name}": p for name, p in rest.pop("probabilities").items()}
    content = io.BytesIO()
    np.savez_compressed(content, **named, **rest)
    files.write(path, content.getvalue())


def read(path: pathlib.Path) -> Predictions:
    """Read what `save` wrote.

    Raises:
      RunError: the file is missing or damaged, or does not hold what it should.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        probabilities = {
            name.removeprefix(_NETWORK): content.pop(name)
            for name in list(content)
            if name.startswith(_NETWORK)
        }
        found = Predictions(probabilities, **content)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"cannot read {path}: {error}") from error
    _check(path, found)
    return found


def _check(path: pathlib.Path, found: Predictions) -> None:
    """Raise `RunError` unless the arrays fit each other."""
    probabilities, labels, mistakes, pictures = found
    teacher = probabilities.get("teacher", np.zeros(0))

    def numbers_below(count: int, values: np.ndarray) -> bool:
        return values.dtype.kind in "iu" and bool(np.all((values >= 0) & (values < count)))

    fitting = (
        teacher.ndim == 2
        and all(p.shape == teacher.shape and p.dtype.kind == "f" for p in probabilities.values())
        and labels.shape == teacher.shape[:1]
        and numbers_below(teacher.shape[1], labels)
        and numbers_below(len(labels), mistakes)
        and pictures.ndim == 4
        and pictures.dtype == np.uint8
        and pictures.shape[:1] == mistakes.shape
        and pictures.shape[3] == 3
        and min(pictures.shape[1:]) > 0
    )
    if not fitting:
        raise RunError(f"cannot read {path}: its arrays do not fit together")
