"""An export in further formats, each tried in its own runtime before it counts."""

import importlib.util
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_cutnmix import output
from tf_cutnmix.errors import InputError, RunError, first_line
from tf_cutnmix.serving.formats import FORMATS, Format
from tf_cutnmix.serving.formats.format import Answer

_BATCH = 32
_TOLERANCE = 1e-3
# One runtime rounds a pixel of a resized image up that another rounds down.
_TOLERANCE_RESIZED = 1e-2

# From images `[N, H, W, C]` uint8 to `[N, K]`.
Probabilities = Callable[[np.ndarray], np.ndarray]


class Examples(NamedTuple):
    """Images to try an export on.

    Attributes:
      pixels: `[N, H, W, C]` uint8, of the networks' size.
      resized: `[n, h, w, C]` uint8, of another size.
      labels: `[N]`, or None where they are not known.
      calibration: `[M, H, W, C]` uint8, training images for 8 bits.
      probabilities: what the networks say of images of any size.
    """

    pixels: np.ndarray
    resized: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray
    probabilities: Probabilities


def check_installed(names: Sequence[str]) -> None:
    """Raise `InputError` for the first format whose packages are not installed."""
    for name in names:
        missing = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
        if missing:
            raise InputError(
                f"--export_format={name} needs {', '.join(missing)}, not installed here: "
                f"pip install 'tf_cutnmix[{FORMATS[name].extra}]'"
            )


def convert(names: Sequence[str], savedmodel: pathlib.Path, examples: Examples) -> dict[str, Any]:
    """Write formats into the folder of a SavedModel.

    Returns:
      Of each format by name, and of "savedmodel": its `file` and its size in `bytes`, the
      `accuracy` on the examples if their labels are known, and for the formats the largest
      difference of a probability to the networks' and how many answers are the same class.

    Raises:
      RunError: one cannot be written, or does not answer as the networks do.
    """
    said = _in_batches(examples.probabilities, examples.pixels)
    size = sum(p.stat().st_size for p in savedmodel.rglob("*") if p.is_file())
    figures = {"savedmodel": {"file": ".", "bytes": size, **_accuracy(said, examples.labels)}}
    for name in names:
        form = FORMATS[name]
        answered = _tried(form, savedmodel, examples)
        difference = np.abs(answered - said).max()
        # Written so that NaN is refused too.
        if not difference <= (_TOLERANCE if form.exact else 1.0):
            raise RunError(f"{form.file} is off by {difference:.2g} from the model")
        files = savedmodel.glob(f"{pathlib.Path(form.file).stem}.*")
        own = [savedmodel / form.file, *(f for f in files if f.suffix == ".bin")]
        figures[name] = {
            "file": form.file,
            "bytes": sum(file.stat().st_size for file in own),
            **_accuracy(answered, examples.labels),
            "largest_difference": float(difference),
            "agreement": float(np.mean(answered.argmax(-1) == said.argmax(-1))),
        }
    return figures


def _tried(form: Format, savedmodel: pathlib.Path, examples: Examples) -> np.ndarray:
    """The probabilities that a new file of a format answers the examples with."""
    file = savedmodel / form.file
    try:
        with output.held_back():
            form.convert(savedmodel, file, examples.calibration)
            answer = form.load(file)
            answered = _in_batches(_probabilities_of(answer), examples.pixels)
            resized = _probabilities_of(answer)(examples.resized) if form.any_size else None
    # Converters and runtimes raise errors of kinds of their own.
    except Exception as error:
        raise RunError(f"cannot export as {form.name}: {first_line(error)}") from error
    if resized is not None:
        difference = np.abs(resized - examples.probabilities(examples.resized)).max()
        if not difference <= _TOLERANCE_RESIZED:
            raise RunError(f"{form.file} is off by {difference:.2g} on images of another size")
    return answered


def _probabilities_of(answer: Answer) -> Probabilities:
    return lambda images: answer(images)["probabilities"]


def _in_batches(probabilities: Probabilities, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), _BATCH)
    return np.concatenate([probabilities(images[start : start + _BATCH]) for start in starts])


def _accuracy(probabilities: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    if labels is None:
        return {}
    return {"accuracy": float(np.mean(probabilities.argmax(axis=-1) == labels))}
