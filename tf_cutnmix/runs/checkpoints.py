"""The whole state of a run in one file, checked when it is read; the one before it is kept."""

import io
import json
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tf_cutnmix import files
from tf_cutnmix.errors import RunError

# 3: one file holds the state, the best model and the history.
_FORMAT = 3
_LISTS = ("values", "metrics", "best", "images")


class Checkpoint(NamedTuple):
    """All that a run needs to go on and to end.

    Attributes:
      values: of the variables of the model and its optimizer, in their order.
      metrics: the running means of an epoch that has begun.
      best: the variables of the model of the best epoch; none if there is no such epoch.
      facts: named texts, numbers, lists and dictionaries of them.
      images: of each split what identifies its images; none in older runs.
    """

    values: Sequence[np.ndarray]
    metrics: Sequence[np.ndarray]
    best: Sequence[np.ndarray]
    facts: dict[str, Any]
    images: Sequence[np.ndarray] = ()


def place(folder: pathlib.Path, epoch: int, batch: int) -> pathlib.Path:
    """Where the folder of a run has its checkpoint after whole epochs and batches of one more."""
    return folder / "checkpoints" / f"{epoch:08d}-{batch:08d}.npz"


def paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in the folder of a run, the latest first."""
    return sorted((folder / "checkpoints").glob("[0-9]*-[0-9]*.npz"), reverse=True)


def newest(folder: pathlib.Path) -> tuple[Checkpoint | None, list[str]]:
    """The latest checkpoint of a run that is whole, and what is wrong with later ones.

    Raises:
      RunError: there are some and none is whole, or they are of an earlier version.
    """
    passed_over: list[str] = []
    for path in paths(folder):
        try:
            return read(path), passed_over
        except RunError as error:
            passed_over.append(str(error))
    if passed_over:
        raise RunError(
            f"{passed_over[0]}; nor any before it: train the run again, with --overwrite"
        )
    return None, []


def save(path: pathlib.Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, all or nothing, into a folder that is made if need be.

    Raises:
      RunError: the file cannot be written; one that was there before is as it was.
    """
    arrays = {
        f"{name}{i:05d}": value
        for name in _LISTS
        for i, value in enumerate(getattr(checkpoint, name))
    }
    facts = {**checkpoint.facts, "format": _FORMAT, "arrays": len(arrays)}
    content = io.BytesIO()
    encoded = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(content, **arrays, facts=encoded)
    files.make_folder(path.parent)
    files.write(path, content.getvalue())


def read(path: pathlib.Path) -> Checkpoint:
    """Read a file that `save` wrote.

    Raises:
      RunError: it is missing, damaged, or of an earlier version of this package.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        with np.load(path) as file:
            content = {name: file[name] for name in file.files}
        facts = json.loads(content.pop("facts").tobytes())
        if broken or facts.pop("arrays") != len(content):
            raise ValueError("it is damaged")
        version = facts.pop("format")
    except KeyError as error:
        raise RunError(f"{path} is no checkpoint, or one of an earlier version") from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise RunError(f"cannot read the checkpoint {path}: {error}") from error
    if version != _FORMAT:
        raise RunError(f"{path} is of version {version} of checkpoints, and this reads {_FORMAT}")
    values, metrics, best, images = (
        [value for name, value in sorted(content.items()) if name.startswith(kind)]
        for kind in _LISTS
    )
    return Checkpoint(values, metrics, best, facts, images)


def copies(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """What variables hold now."""
    return [np.asarray(variable).copy() for variable in variables]


def restore(values: Sequence[np.ndarray], variables: Sequence[keras.Variable]) -> None:
    """Set every variable, or none.

    Raises:
      RunError: the values are not of these variables.
    """
    found = [(value.shape, value.dtype.name) for value in values]
    wanted = [(tuple(variable.shape), variable.dtype) for variable in variables]
    if found != wanted:
        odd = [pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]]
        detail = f"one is {odd[0][0]} where {odd[0][1]} is needed" if odd else "of equal shapes"
        raise RunError(
            f"the checkpoint is of another model: it holds {len(found)} variables where "
            f"{len(wanted)} are needed, {detail}"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
