"""The test predictions of a run in one file, to draw from without TensorFlow."""

import io
import pathlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tf_cutnmix import files
from tf_cutnmix.errors import RunError
from tf_cutnmix.runs import scores

if TYPE_CHECKING:  # a report needs no TensorFlow
    from tf_cutnmix.data.images import Images

_MISTAKES = _EXAMPLES = 12
_SIDE = 96
_NETWORK = "probabilities."


class Predictions(NamedTuple):
    """Predictions of the best epoch's networks on the test split.

    Attributes:
      probabilities: `[N, K]` float32 by the name of the network.
      labels: `[N]` int32.
      mistakes: `[M]`, positions of the teacher's surest mistakes, the surest first.
      pictures: `[M + E, H, W, 3]` uint8, the images at these positions and those of the examples,
        made smaller where large.
      names: `[N]` text, what a user calls the images; positions in runs of before.
      examples: `[E]`, positions at even distances.
      heat: `[M + E, H, W]` uint8, where the teacher looks in the pictures, from 0 to 255; of no
        picture, where a network does not tell.
    """

    probabilities: dict[str, np.ndarray]
    labels: np.ndarray
    mistakes: np.ndarray
    pictures: np.ndarray
    names: np.ndarray
    # Runs of before have none.
    examples: np.ndarray = np.zeros(0, np.int64)
    heat: np.ndarray = np.zeros((0, 1, 1), np.uint8)


def collect(
    probabilities: Mapping[str, np.ndarray],
    images: "Images",
    heatmaps: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Predictions:
    """Predictions of images, with the teacher's surest mistakes and examples.

    Args:
      probabilities: `[N, K]` by the name of the network.
      images: `N`.
      heatmaps: from images `[S, H, W, 3]` uint8 to `[S, H, W]` of 0 to 1, where the teacher looks.
    """
    pixels, labels = images.pixels, images.labels
    mistakes = scores.surest_mistakes(probabilities["teacher"], labels)[:_MISTAKES]
    examples = np.unique(np.linspace(0, len(labels) - 1, _EXAMPLES).astype(int))
    shown = np.concatenate([mistakes, examples])
    height, width = pixels.shape[1:3]
    part = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * part)), max(1, round(height * part)))
    chosen = np.stack([pixels[position] for position in shown])
    pictures = np.stack([np.asarray(Image.fromarray(image).resize(size)) for image in chosen])
    heat = heatmaps(chosen) if heatmaps else np.zeros((0, 1, 1))
    levels = [
        np.asarray(Image.fromarray((255 * one).astype(np.uint8)).resize(size)) for one in heat
    ]
    return Predictions(
        probabilities=dict(probabilities),
        labels=labels,
        mistakes=mistakes,
        pictures=pictures,
        names=np.array([images.name(position) for position in range(len(labels))], np.str_),
        examples=examples,
        heat=np.stack(levels) if levels else np.zeros((0, 1, 1), np.uint8),
    )


def mistakes(found: Predictions, class_names: Sequence[str]) -> pd.DataFrame:
    """All of the teacher's mistakes, the surest first: what to look at, and perhaps to correct."""
    teacher, names = found.probabilities["teacher"], np.array(class_names)
    wrong = scores.surest_mistakes(teacher, found.labels)
    return pd.DataFrame(
        {
            "file": found.names[wrong],
            "class": names[found.labels[wrong]],
            "predicted": names[teacher[wrong].argmax(axis=1)],
            "confidence": teacher[wrong].max(axis=1),
        }
    )


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
        content.setdefault("names", np.arange(len(content["labels"])).astype(str))
        found = Predictions(probabilities, **content)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"cannot read {path}: {error}") from error
    _check(path, found)
    return found


def _check(path: pathlib.Path, found: Predictions) -> None:
    """Raise `RunError` unless the arrays fit each other."""
    probabilities, labels, mistakes, pictures, names, examples, heat = found
    teacher = probabilities.get("teacher", np.zeros(0))

    def numbers_below(count: int, values: np.ndarray) -> bool:
        return values.dtype.kind in "iu" and bool(np.all((values >= 0) & (values < count)))

    fitting = (
        teacher.ndim == 2
        and all(p.shape == teacher.shape and p.dtype.kind == "f" for p in probabilities.values())
        and labels.shape == teacher.shape[:1]
        and numbers_below(teacher.shape[1], labels)
        and numbers_below(len(labels), mistakes)
        and numbers_below(len(labels), examples)
        and names.dtype.kind == "U"
        and names.shape == labels.shape
        and pictures.ndim == 4
        and pictures.dtype == np.uint8
        and len(pictures) == mistakes.size + examples.size
        and pictures.shape[3] == 3
        and min(pictures.shape[1:]) > 0
        and heat.dtype == np.uint8
        and (heat.shape[:1] == (0,) or heat.shape == pictures.shape[:3])
    )
    if not fitting:
        raise RunError(f"cannot read {path}: its arrays do not fit together")
