"""A folder of pictures: a sub-folder for each class, or for each split and in it each class."""

import collections
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from tf_cutnmix import files
from tf_cutnmix.data import pictures
from tf_cutnmix.data.images import Source
from tf_cutnmix.data.resizing import Target
from tf_cutnmix.data.splits import in_proportion, select
from tf_cutnmix.errors import InputError, RunError, listed
from tf_cutnmix.escaping import composed

_ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".jp2", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".tga"),
)
# How pictures begin, whatever their files are called. Raw files of cameras begin as TIFF files do.
_BEGINNINGS = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP", re.DOTALL)
ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# What archives made on a Mac leave beside the folders that were packed.
_NO_CLASSES = ("__MACOSX",)
# So many for each thread are read before the first of them is needed: all lie in memory then.
_FILES_A_THREAD = 8

Classes = dict[str, list[pathlib.Path]]
_Made = TypeVar("_Made")


class Layout(NamedTuple):
    """What a folder of pictures holds.

    Attributes:
      class_names: composed, and sorted.
      splits: the pictures of each split with their classes' positions. A split that a folder of
        another name holds is there under that name, composed, as well.
      notes: what a user is to know about it, a line each.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, list[tuple[pathlib.Path, int]]]
    notes: tuple[str, ...]


def source(path: pathlib.Path, found: Layout, split: str, target: Target | None) -> Source:
    """One split of what a folder or a table holds; of a slice of one, each class has its share.

    Raises:
      InputError: there is no such split.
    """
    splits = found.splits
    if "[" in split:
        # Of them as they are listed, by class, a slice would be the first classes.
        splits = {
            name: [listed[position] for position in in_proportion([k for _, k in listed])]
            for name, listed in splits.items()
        }
    chosen = select(str(path), composed(split), splits)
    if "[" in split:
        chosen.sort(key=lambda one: one[::-1])
    every = [file for listed in found.splits.values() for file, _ in listed]
    return _of_files(path, chosen, every, found.class_names, found.notes, target)


def unlabelled(path: pathlib.Path, target: Target | None) -> Source:
    """All pictures at any depth below a folder, without labels, in the order of their paths.

    Raises:
      InputError: there are none.
    """
    listed, others = pictures_below(path)
    if not listed:
        raise InputError(f"{path} holds no images ({', '.join(_ENDINGS)})")
    skipped = collections.Counter(map(_kind, others))
    note = _told(f"{path}: {len(listed)} pictures without labels", skipped)
    return _of_files(path, [(file, -1) for file in listed], listed, (), (note,), target)


def _of_files(
    path: pathlib.Path,
    chosen: Sequence[tuple[pathlib.Path, int]],
    every: Sequence[pathlib.Path],
    class_names: tuple[str, ...],
    notes: tuple[str, ...],
    target: Target | None,
) -> Source:
    """Pictures below a folder with their labels; `every` is looked through for broken ones."""
    paths = [file for file, _ in chosen]

    def read(file: pathlib.Path) -> tuple[np.ndarray, bytes]:
        content = file.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        return pictures.read(content, target), digest

    def examples() -> Iterator[tuple[np.ndarray, int, bytes]]:
        for (image, digest), (_, label) in zip(_each(read, paths), chosen, strict=True):
            yield image, label, digest

    def can_be_read(file: pathlib.Path) -> bool:
        try:
            read(file)
        except (OSError, tf.errors.OpError, RunError):
            return False
        return True

    def broken() -> list[pathlib.Path]:
        whole = _each(can_be_read, every)
        return [file for file, good in zip(every, whole, strict=True) if not good]

    return Source(
        str(path),
        examples,
        len(paths),
        class_names,
        lambda i: str(paths[i]),
        lambda: [files.identity(file, f"{os.path.relpath(file, path)} {k}") for file, k in chosen],
        notes,
        broken,
    )


def _each(call: Callable[[pathlib.Path], _Made], paths: Sequence[pathlib.Path]) -> Iterator[_Made]:
    """The result of a call for each file, in their order, by as many threads as TensorFlow has."""
    # One before all: each of several would make TensorFlow's graph ready.
    yield from map(call, paths[:1])
    workers = tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count() or 1
    # A run that is asked to end does not wait for its threads: a file system may not answer.
    with ThreadPool(workers) as threads:
        for start in range(1, len(paths), _FILES_A_THREAD * workers):
            yield from threads.imap(call, paths[start : start + _FILES_A_THREAD * workers])


def layout(path: pathlib.Path) -> Layout:
    """List a folder: a sub-folder for each class, or for each split and in it for each class.

    A class's pictures lie anywhere below its folder, or below folders whose names differ in their
    Unicode form alone. Without splits every fifth picture of each class, in the order of the names,
    is a test picture.

    Raises:
      InputError: the folder is of neither kind, or a class has no pictures or a name that cannot
        be used.
    """
    folders = _split_folders(path)
    skipped: collections.Counter[str] = collections.Counter()
    notes = []
    for place in (path, *folders.values()):
        if beside := sum(_is_picture(p) for p in place.iterdir() if not p.name.startswith(".")):
            notes.append(f"{place}: left out {beside} pictures that lie in no class's folder")
    if folders:
        splits = {role: _list_classes(folder, skipped) for role, folder in folders.items()}
    else:
        splits = fifths(_list_classes(path, skipped))
    written = {own.name for place in folders.values() or [path] for own in _subfolders(place)}
    spellings = collections.Counter(map(composed, written))
    if twice := [repr(name) for name, number in sorted(spellings.items()) if number > 1]:
        which = listed(twice)
        notes.append(f"{path}: one class each, although Unicode writes them twice: {which}")
    class_names = tuple(splits["train"])
    for role, classes in splits.items():
        if odd := sorted(set(classes) ^ set(class_names)):
            names = f"{folders['train'].name} and {folders[role].name}"
            raise InputError(f"{path}: {names} differ in the classes {odd}")
    if "test" not in splits and "validation" in splits:
        # The final figures need pictures of their own; those that choose can be held out.
        name = folders["validation"].name
        notes.append(f"{path} holds no test folder: {name} is the test split")
        splits["test"] = splits.pop("validation")
        folders["test"] = folders.pop("validation")
    count = sum(len(files) for classes in splits.values() for files in classes.values())
    found = f"{path}: {count} pictures of {len(class_names)} classes"
    by_name = splits | {composed(folder.name): splits[role] for role, folder in folders.items()}
    return Layout(
        class_names,
        {
            name: [(file, k) for k, listed in enumerate(classes.values()) for file in listed]
            for name, classes in by_name.items()
        },
        (_told(found, skipped), *notes),
    )


def _told(found: str, skipped: collections.Counter[str]) -> str:
    """A line of what was found, and of the other files by their endings."""
    others = ", ".join(f"{number} {kind}" for kind, number in skipped.most_common())
    return f"{found}; skipped {others}" if others else found


def fifths(classes: Classes) -> dict[str, Classes]:
    """Pictures without splits as two: every fifth of a class, in their order, is to test on."""
    return {
        "train": {c: [f for i, f in enumerate(fs) if i % 5 != 4] for c, fs in classes.items()},
        "test": {c: fs[4::5] for c, fs in classes.items()},
    }


def has_validation(path: pathlib.Path) -> bool:
    """Whether a folder has a split of its own to choose the best epoch on.

    Raises:
      InputError: the folder's splits cannot be told apart.
    """
    return {"validation", "test"} <= _split_folders(path).keys()


def pictures_below(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The pictures at any depth below a folder, and the other files, sorted, but hidden ones.

    Links are followed, but into no folder that is read already or lies around this one.

    Raises:
      InputError: a folder cannot be read.
    """
    found = []
    seen = {folder.resolve(), *folder.resolve().parents, *folder.absolute().parents}
    for place, inner, names in os.walk(folder, onerror=_refuse, followlinks=True):
        below = sorted(pathlib.Path(place, name) for name in inner if not name.startswith("."))
        inner.clear()
        for path in sorted(below, key=pathlib.Path.is_symlink):  # what is linked comes last
            if (own := path.resolve()) not in seen:
                seen.add(own)
                inner.append(path.name)
        found += [pathlib.Path(place, name) for name in names if not name.startswith(".")]
    listed = [file for file in sorted(found) if _is_picture(file)]
    return listed, sorted(set(found).difference(listed))


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


def _split_folders(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split, by the split's name; none where the sub-folders are classes."""
    folders = _subfolders(path)
    by_role = collections.defaultdict(list)
    for folder in folders:
        name = composed(folder.name)
        by_role[ROLES.get(name.lower(), name)].append(folder)
    others = by_role.keys() - ROLES.values()
    if len(others) == len(by_role):
        return {}
    if others:
        # Splits hold sub-folders of one name, and classes do not.
        inner = [composed(below.name) for folder in folders for below in _subfolders(folder)]
        if len(set(inner)) == len(inner):
            return {}
    if "train" not in by_role:
        names = ", ".join(folder.name for folder in folders)
        raise InputError(
            f"{path} holds {names} and no train folder: rename the one with the training pictures "
            "to train"
        )
    for role, same in by_role.items():
        if len(same) > 1:
            raise InputError(
                f"{path} holds {' and '.join(f.name for f in same)}, which both mean {role}: "
                "keep one of them"
            )
    return {role: same[0] for role, same in by_role.items()}


def _subfolders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        p
        for p in path.iterdir()
        if p.is_dir() and not p.name.startswith(".") and p.name not in _NO_CLASSES
    )


def _list_classes(path: pathlib.Path, skipped: collections.Counter[str]) -> Classes:
    """The pictures of each class; adds the other files by their endings."""
    folders = _subfolders(path)
    if not folders:
        itself = composed(path.name).lower() in ROLES
        hint = ", or, if it is a class itself, call it otherwise than a split" if itself else ""
        tables = [p for p in (*path.iterdir(), *path.parent.iterdir()) if p.suffix == ".csv"]
        told = f"; if {tables[0]} names them, pass --dataset={tables[0]}" if tables else ""
        raise InputError(
            f"{path} holds no class sub-folders: put each class's images into one{hint}{told}"
        )
    classes: Classes = collections.defaultdict(list)
    for folder in folders:
        # A class's name is a line of text in an export.
        if os.fsencode(folder.name).decode(errors="ignore").splitlines() != [folder.name]:
            raise InputError(
                f"{str(folder)!r}: a class needs a name of one line of text, rename it"
            )
        listed, others = pictures_below(folder)
        if not listed:
            raise InputError(f"{folder} holds no images ({', '.join(_ENDINGS)})")
        classes[composed(folder.name)] += listed
        skipped.update(map(_kind, others))
    return dict(sorted(classes.items()))


def _is_picture(file: pathlib.Path) -> bool:
    """Whether its name or its content says so."""
    if _is_special(file):
        return False
    if file.suffix.lower() in _ENDINGS:
        return True
    try:
        with open(file, "rb") as opened:
            return bool(_BEGINNINGS.match(opened.read(16)))
    except OSError:
        return False


def _is_special(file: pathlib.Path) -> bool:
    """Whether it is a pipe, a socket or a device: whoever opens one may wait for ever."""
    return os.path.exists(file) and not os.path.isfile(file)


def _kind(file: pathlib.Path) -> str:
    return "no regular file" if _is_special(file) else file.suffix.lower() or "without an ending"
