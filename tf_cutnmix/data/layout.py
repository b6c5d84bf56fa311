"""Which files of a folder of pictures belong to which split and class."""

import collections
import os
import pathlib
import re
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tf_cutnmix.data import by_pillow
from tf_cutnmix.errors import InputError, listed
from tf_cutnmix.escaping import composed

ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".jp2", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".tga"),
)
# How pictures begin, whatever their files are called.
_BEGINNINGS = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP|II\x2a\x00|MM\x00\x2a", re.DOTALL
)
_ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# What archives made on a Mac leave beside the folders that were packed.
_NO_CLASSES = ("__MACOSX",)
_NAMED = 5

Classes = dict[str, list[pathlib.Path]]


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


def read(path: pathlib.Path) -> Layout:
    """List a folder: a sub-folder for each class, or for each split and in it for each class.

    A class's pictures lie anywhere below its folder, or below folders whose names are written
    otherwise in Unicode alone. Without splits every fifth of each class is a test picture, in the
    order of the names.

    Raises:
      InputError: the folder is of neither kind, or a class has no pictures or a name that cannot
        be used.
    """
    folders = _split_folders(path)
    skipped: collections.Counter[str] = collections.Counter()
    spelled: dict[str, set[str]] = collections.defaultdict(set)
    notes = _beside([path, *folders.values()])
    if not folders:
        splits = _every_fifth(_list_classes(path, skipped, spelled))
    else:
        splits = {role: _list_classes(f, skipped, spelled) for role, f in folders.items()}
        _check_equal_classes(path, folders, splits)
        if "test" not in splits and "validation" in splits:
            # The final figures need pictures of their own; those that choose can be held out.
            name = folders["validation"].name
            notes.append(f"{path} holds no test folder: {name} is the test split")
            splits["test"] = splits.pop("validation")
            folders["test"] = folders.pop("validation")
    notes += _written_otherwise(path, spelled)
    count = sum(len(files) for classes in splits.values() for files in classes.values())
    class_names = tuple(splits["train"])
    found = f"{path}: {count} pictures of {len(class_names)} classes"
    others = ", ".join(f"{number} {kind}" for kind, number in skipped.most_common())
    notes.insert(0, f"{found}; skipped {others}" if others else found)
    by_name = splits | {composed(folder.name): splits[name] for name, folder in folders.items()}
    return Layout(class_names, {name: _labelled(s) for name, s in by_name.items()}, tuple(notes))


def pictures_below(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The pictures at any depth below a folder, and the other files, sorted, but hidden ones.

    Links are followed, but into no folder that is read already or lies around this one.

    Raises:
      InputError: a folder cannot be read.
    """
    found = []
    around = {*folder.absolute().parents, *folder.resolve().parents}
    seen = {_identity(place) for place in (folder, *around)}
    for place, inner, files in os.walk(folder, onerror=_refuse, followlinks=True):
        below = sorted(pathlib.Path(place, name) for name in inner if not name.startswith("."))
        inner.clear()
        for path in sorted(below, key=pathlib.Path.is_symlink):  # what is linked comes last
            if (identity := _identity(path)) not in seen:
                seen.add(identity)
                inner.append(path.name)
        found += [pathlib.Path(place, name) for name in files if not name.startswith(".")]
    pictures = [file for file in sorted(found) if _is_picture(file)]
    return pictures, sorted(set(found).difference(pictures))


def _identity(folder: pathlib.Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


def has_validation(path: pathlib.Path) -> bool:
    """Whether a folder has a split of its own to choose the best epoch on.

    Raises:
      InputError: the folder's splits cannot be told apart.
    """
    return {"validation", "test"} <= _split_folders(path).keys()


def _every_fifth(classes: Classes) -> dict[str, Classes]:
    return {
        "train": {c: [f for i, f in enumerate(fs) if i % 5 != 4] for c, fs in classes.items()},
        "test": {c: fs[4::5] for c, fs in classes.items()},
    }


def _check_equal_classes(
    path: pathlib.Path, folders: Mapping[str, pathlib.Path], splits: Mapping[str, Classes]
) -> None:
    for name, classes in splits.items():
        odd = sorted(set(classes) ^ set(splits["train"]))
        if odd:
            names = f"{folders['train'].name} and {folders[name].name}"
            raise InputError(f"{path}: {names} differ in the classes {odd}")


def _labelled(classes: Classes) -> list[tuple[pathlib.Path, int]]:
    return [(file, label) for label, files in enumerate(classes.values()) for file in files]


def _split_folders(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split, by the split's name; none where the sub-folders are classes.

    Raises:
      InputError: some sub-folders are called as splits are, and do not fit together.
    """
    folders = _subfolders(path)
    by_role = collections.defaultdict(list)
    for folder in folders:
        name = composed(folder.name)
        by_role[_ROLES.get(name.lower(), name)].append(folder)
    others = by_role.keys() - _ROLES.values()
    names = ", ".join(folder.name for folder in folders)
    if len(others) == len(by_role) or (others and not _have_names_in_common(folders)):
        return {}
    if "train" not in by_role:
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
    train = by_role["train"][0]
    if not _subfolders(train):
        raise InputError(
            f"{train} holds no class sub-folders: put each class's images into one, or, if "
            f"{names} are the classes, rename them"
        )
    return {role: same[0] for role, same in by_role.items()}


def _have_names_in_common(folders: Iterable[pathlib.Path]) -> bool:
    """Whether some hold sub-folders of one name, as splits do and classes do not."""
    names = [composed(inner.name) for folder in folders for inner in _subfolders(folder)]
    return len(set(names)) < len(names)


def _subfolders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        p
        for p in path.iterdir()
        if p.is_dir() and not p.name.startswith(".") and p.name not in _NO_CLASSES
    )


def _list_classes(
    path: pathlib.Path, skipped: collections.Counter[str], spelled: dict[str, set[str]]
) -> Classes:
    """The pictures of each class; adds other files by their endings, and how names are written."""
    folders = _subfolders(path)
    if not folders:
        raise InputError(f"{path} holds no class sub-folders: put each class's images into one")
    classes: Classes = collections.defaultdict(list)
    for folder in folders:
        _check_name(folder)
        pictures, others = pictures_below(folder)
        if not pictures:
            raise InputError(f"{folder} holds no images ({', '.join(ENDINGS)})")
        classes[composed(folder.name)] += pictures
        spelled[composed(folder.name)].add(folder.name)
        skipped.update(map(_kind, others))
    return dict(sorted(classes.items()))


def _beside(places: Iterable[pathlib.Path]) -> list[str]:
    """A line for each place where pictures lie beside the folders of the classes."""
    lines = []
    for place in places:
        beside = [p for p in place.iterdir() if not (p.name.startswith(".") or p.is_dir())]
        if count := sum(map(_is_picture, beside)):
            lines.append(f"{place}: left out {count} pictures that lie in no class's folder")
    return lines


def _written_otherwise(path: pathlib.Path, spelled: Mapping[str, set[str]]) -> list[str]:
    """A line that names the classes whose folders' names differ in their code points alone."""
    joined = [repr(name) for name, written in sorted(spelled.items()) if len(written) > 1]
    if not joined:
        return []
    return [f"{path}: one class each, although Unicode writes them twice: {listed(joined, _NAMED)}"]


def _check_name(folder: pathlib.Path) -> None:
    """A class's name is a line of text in an export."""
    try:
        text = folder.name.encode().decode()
    except UnicodeEncodeError:
        text = ""
    if text.splitlines() != [folder.name]:
        raise InputError(f"{str(folder)!r}: a class needs a name of one line of text, rename it")


def _is_picture(file: pathlib.Path) -> bool:
    """Whether its name or its content says so."""
    if _is_special(file):
        return False
    if file.suffix.lower() in ENDINGS:
        return True
    try:
        with open(file, "rb") as opened:
            if not _BEGINNINGS.match(opened.read(16)):
                return False
            opened.seek(0)
            return not by_pillow.is_raw(opened, file.name)
    except OSError:
        return False


def _is_special(file: pathlib.Path) -> bool:
    """Whether it is a pipe, a socket or a device: whoever opens one may wait for ever."""
    try:
        return not stat.S_ISREG(file.stat().st_mode)
    except OSError:  # a link to nothing, which reading names
        return False


def _kind(file: pathlib.Path) -> str:
    return "no regular file" if _is_special(file) else file.suffix.lower() or "without an ending"
