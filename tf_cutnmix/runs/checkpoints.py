"""The whole state of a run in one file, checked when it is read."""

import io
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tf_cutnmix import files
from tf_cutnmix.errors import RunError

# 2: the averaged networks' statistics of BatchNormalization are their own.
_FORMAT = 2


class Checkpoint(NamedTuple):
    """What a file holds: the values of the variables in their order, and named facts."""

    values: list[np.ndarray]
    facts: dict[str, np.ndarray]


def save(path: pathlib.Path, variables: Sequence[keras.Variable], **facts: Any) -> None:
    """Write variables and facts (numbers, strings or lists of them), all or nothing.

    Raises:
      RunError: the file cannot be written; one that was there before is as it was.
    """
    values: dict[str, Any] = {
        f"{i:05d}": np.asarray(variable) for i, variable in enumerate(variables)
    }
    content = io.BytesIO()
    np.savez(content, **values, **facts, format=_FORMAT, count=len(values) + len(facts) + 1)
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
        if broken or content.pop("count", None) != len(content):
            raise ValueError("it is damaged")
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise RunError(f"cannot read the checkpoint {path}: {error}") from error
    if content.pop("format", 1) != _FORMAT:
        raise RunError(
            f"{path} is of an earlier version, whose averaged networks had no statistics of their "
            "own: train the run anew, with --overwrite"
        )
    values = [value for name, value in sorted(content.items()) if name.isdigit()]
    facts = {name: value for name, value in content.items() if not name.isdigit()}
    return Checkpoint(values, facts)


def restore(checkpoint: Checkpoint, variables: Sequence[keras.Variable]) -> None:
    """Set every variable, or none.

    Raises:
      RunError: the checkpoint is not of these variables.
    """
    found = [(value.shape, value.dtype.name) for value in checkpoint.values]
    wanted = [(tuple(variable.shape), variable.dtype) for variable in variables]
    if found != wanted:
        odd = [pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]]
        detail = f"one is {odd[0][0]} where {odd[0][1]} is needed" if odd else "of equal shapes"
        raise RunError(
            f"the checkpoint is of another model: it holds {len(found)} variables where "
            f"{len(wanted)} are needed, {detail}"
        )
    for variable, value in zip(variables, checkpoint.values, strict=True):
        variable.assign(value)
