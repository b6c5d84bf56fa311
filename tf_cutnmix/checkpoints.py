"""The whole state of a run in one file: written all or not at all, checked when read."""

import contextlib
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tf_cutnmix.errors import RunError


class Checkpoint(NamedTuple):
    """What a file holds: the values of the variables in their order, and named facts."""

    values: list[np.ndarray]
    facts: dict[str, np.ndarray]


def save(path: pathlib.Path, variables: Sequence[keras.Variable], **facts: Any) -> None:
    """Write variables and facts (numbers, strings or lists of them).

    The file is written beside its place and then renamed: a reader finds the old file or the
    new one, never half of one.

    Raises:
      RunError: it cannot be written; a file that was there before is as it was.
    """
    temporary = path.with_suffix(".tmp")
    values = {f"{i:05d}": np.asarray(variable) for i, variable in enumerate(variables)}
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **values, **facts, count=len(values) + len(facts))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {path}: {error.strerror}; what it held before is still valid"
        ) from error


def read(path: pathlib.Path) -> Checkpoint:
    """Read a file that `save` wrote.

    Raises:
      RunError: it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        with np.load(path) as file:
            content = {name: file[name] for name in file.files}
        if broken or content.pop("count", None) != len(content):
            raise ValueError("it is damaged")
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RunError(f"cannot read the checkpoint {path}: {error}") from error
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
