"""Folders and files that a user names, looked for before TensorFlow is loaded."""

import difflib
import glob
import os
import pathlib
from collections.abc import Callable

from tf_cutnmix.errors import InputError

# What --weights_from names that is no file.
NO_FILE = ("none", "imagenet", "own")
_TABLES = (".csv", ".tsv")


def table(dataset: str) -> pathlib.Path | None:
    """The CSV file that the name of a data set stands for, if any."""
    path = pathlib.Path(os.path.expanduser(dataset))
    return path if path.suffix.lower() in _TABLES and not path.is_dir() else None


def check_dataset(dataset: str) -> None:
    """Raise `InputError` for a data set whose name can only be a place's where nothing is."""
    if table(dataset):
        _check(dataset, "dataset", "file", pathlib.Path.is_file)
    elif dataset.startswith((".", "~", os.sep)):
        check_folder(dataset, "dataset")


def check_weights(source: str) -> None:
    """Raise `InputError` unless what a run is to start from is there, where it is a file's name."""
    if source not in NO_FILE and not os.path.exists(os.path.expanduser(source)):
        raise InputError(f"--weights_from={source}: there is no such file or folder")


def check_folder(folder: str, flag: str = "") -> None:
    """Raise `InputError` unless a folder is there; one of nearly the same name is proposed."""
    _check(folder, flag, "folder", pathlib.Path.is_dir)


def _check(place: str, flag: str, kind: str, is_one: Callable[[pathlib.Path], bool]) -> None:
    path = pathlib.Path(os.path.expanduser(place))
    if is_one(path):
        return
    around = [p.name for p in path.parent.iterdir() if is_one(p)] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, around, n=1)
    meant = ""
    if near:
        meant = f": did you mean {os.path.join(os.path.dirname(place.rstrip(os.sep)), near[0])!r}?"
    named = f"--{flag}={place}" if flag else place
    raise InputError(f"{named}: there is no such {kind}{meant}")


def matching(place: str) -> list[pathlib.Path]:
    """The file or the folder of this name, or the files that a pattern fits.

    Raises:
      InputError: there is none.
    """
    if os.path.exists(place):
        return [pathlib.Path(place)]
    matches = sorted(map(pathlib.Path, glob.glob(place, recursive=True)))
    if found := [match for match in matches if match.is_file()]:
        return found
    raise InputError(f"{place!r}: there is no such file or folder, nor one that fits")
