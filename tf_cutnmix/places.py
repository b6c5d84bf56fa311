"""Folders and files that a user names, looked for before TensorFlow is loaded."""

import difflib
import glob
import os
import pathlib

from tf_cutnmix.errors import InputError

# What --weights_from names that is no file.
NO_FILE = ("none", "imagenet", "own")


def check_dataset(dataset: str) -> None:
    """Raise `InputError` for a data set whose name can only be a folder's that is not there."""
    if dataset.startswith((".", "~", os.sep)):
        check_folder(dataset, "dataset")


def check_weights(source: str) -> None:
    """Raise `InputError` unless what a run is to start from is there, where it is a file's name."""
    if source not in NO_FILE and not os.path.exists(os.path.expanduser(source)):
        raise InputError(f"--weights_from={source}: there is no such file or folder")


def check_folder(folder: str, flag: str = "") -> None:
    """Raise `InputError` unless a folder is there; one of nearly the same name is proposed."""
    path = pathlib.Path(os.path.expanduser(folder))
    if path.is_dir():
        return
    around = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, around, n=1)
    meant = ""
    if near:
        meant = f": did you mean {os.path.join(os.path.dirname(folder.rstrip(os.sep)), near[0])!r}?"
    named = f"--{flag}={folder}" if flag else folder
    raise InputError(f"{named}: there is no such folder{meant}")


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
