"""What an export says of files: TensorFlow reads them, and Pillow those that it cannot."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.networks.served import Served
from tf_cutnmix.predicting import pictures


class Answer(NamedTuple):
    """What was said of a file.

    Attributes:
      path: of the file.
      classes: the most probable ones with their probabilities, the surest first; none where the
        file cannot be read.
      problem: why it cannot be read, or "".
    """

    path: pathlib.Path
    classes: tuple[tuple[str, float], ...] = ()
    problem: str = ""


Outcome = np.ndarray | RunError


def ask(
    export: Served, paths: Sequence[pathlib.Path], *, batch_size: int, top: int = 3
) -> Iterator[Answer]:
    """An answer for each file, in their order.

    Raises:
      InputError: the export does not take files, or has not a name for each of its classes.
    """
    serve_bytes = export.model.signatures.get("serve_bytes")
    if serve_bytes is None:
        raise InputError("--savedmodel has no signature serve_bytes: it is no export of tf_cutnmix")
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        for path, outcome in zip(batch, _ask_batch(export, serve_bytes, batch), strict=True):
            if isinstance(outcome, RunError):
                yield Answer(path, problem=str(outcome))
            else:
                yield Answer(path, _best(outcome, export.class_names, top))


def _best(
    probabilities: np.ndarray, class_names: Sequence[str], top: int
) -> tuple[tuple[str, float], ...]:
    if len(class_names) != len(probabilities):
        raise InputError(
            f"--savedmodel tells {len(probabilities)} classes apart and names {len(class_names)}: "
            "its assets/class_names.txt was changed"
        )
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((class_names[k], float(probabilities[k])) for k in order)


def _ask_batch(
    export: Served, serve_bytes: Callable, paths: Sequence[pathlib.Path]
) -> list[Outcome]:
    """Probabilities `[K]` of each file, or what is wrong with it."""
    contents = [_read(path) for path in paths]
    whole = [content for content in contents if isinstance(content, bytes)]
    said = iter(_ask_files(serve_bytes, whole))
    outcomes: list[Outcome] = []
    for content in contents:
        if isinstance(content, RunError):
            outcomes.append(content)
            continue
        probabilities = next(said)
        outcomes.append(_ask_pixels(export, content) if probabilities is None else probabilities)
    return outcomes


def _read(path: pathlib.Path) -> bytes | RunError:
    try:
        return path.read_bytes()
    except OSError as error:
        return RunError(str(error.strerror))


def _ask_files(serve_bytes: Callable, contents: list[bytes]) -> list[np.ndarray | None]:
    """Probabilities `[K]` of each file; None where TensorFlow cannot read it."""
    if not contents:
        return []
    try:
        answer = serve_bytes(bytes=tf.constant(contents))
    except tf.errors.OpError:
        # An export that does not say which files are broken refuses all files of a call.
        halves = (contents[: len(contents) // 2], contents[len(contents) // 2 :])
        if len(contents) == 1:
            return [None]
        return [one for half in halves for one in _ask_files(serve_bytes, half)]
    valid = answer["valid"].numpy() if "valid" in answer else np.ones(len(contents), bool)
    rows = zip(answer["probabilities"].numpy(), valid, strict=True)
    return [row if good else None for row, good in rows]


def _ask_pixels(export: Served, content: bytes) -> Outcome:
    try:
        image = pictures.decode(content)
    except RunError as error:
        return error
    return export.predict(images=tf.constant(image[np.newaxis]))["probabilities"].numpy()[0]
