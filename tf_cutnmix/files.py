"""Writing so that nothing is lost: a file all or not at all, a folder by one process at a time."""

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from typing import IO

from tf_cutnmix.errors import InputError, RunError

_LOCK = ".lock"
_TEMPORARY = ".*.tmp"
_LONGEST_NAME = 255
_PATTERN = re.compile(r"[\[\\*?]")
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def write(path: pathlib.Path, content: bytes) -> None:
    """Write a file all or not at all.

    It is written beside its place and then renamed: a reader finds the old content or the new.

    Raises:
      RunError: it cannot be written; a file that was there before is as it was.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        # "x": never through a link that somebody has put there.
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {path}: {error.strerror}; what it held before is still valid"
        ) from error
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Have a file, or the entries of a folder, outlive a loss of power, where that can be done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_names(path: pathlib.Path) -> None:
    """Raise `InputError` for a path that no file system takes, before a part of it is made."""
    if too_long := [part for part in path.parts if len(os.fsencode(part)) > _LONGEST_NAME]:
        raise InputError(
            f"{too_long[0][:60]}... has {len(os.fsencode(too_long[0]))} bytes: a name may have "
            f"{_LONGEST_NAME}"
        )


def own(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The path of a name in a folder, which may itself be a link, as may those above it.

    Raises:
      InputError: it is a link out of the folder: whoever made that would choose what is shown.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{path} leads out of {folder} and is not followed: if you trust it, put there what it "
            "names"
        )
    return path


def make_folder(folder: pathlib.Path, option: str = "workdir") -> list[pathlib.Path]:
    """Make a folder and those above it; returns the ones that were made, the innermost first.

    Raises:
      InputError: it cannot be made.
    """
    check_names(folder)
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--{option}={folder} cannot be written: {error.strerror}") from error
    for path in made:
        sync(path.parent)
    return made


def identity(path: pathlib.Path, name: str) -> str:
    """A line that changes when the file does."""
    found = path.stat()
    return f"{name} {found.st_size} {found.st_mtime_ns}"


def remove_half_written(folder: pathlib.Path) -> None:
    """Remove what processes that were killed while they wrote have left in a folder."""
    for left in folder.glob(_TEMPORARY):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Be the only process that writes into a folder, which is made if it is not there.

    The system drops the lock with the process, however that ends. What killed processes have left
    half-written is removed; so is, at the end, a folder that was made and is still empty.

    Raises:
      InputError: another process holds the folder, or it cannot be made.
    """
    made = make_folder(folder)
    lock = _lock(folder)
    try:
        remove_half_written(folder)
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.close()
        for path in made:
            with contextlib.suppress(OSError):  # It is not empty.
                path.rmdir()


@contextlib.contextmanager
def waiting(folder: pathlib.Path, name: str, option: str) -> Iterator[None]:
    """Be the only process that makes something in a folder, after whoever makes it now.

    Args:
      folder: is made if it is not there.
      name: of what is made.
      option: that names the folder, for errors.

    Raises:
      InputError: the folder cannot be written.
    """
    make_folder(folder, option)
    with _open_lock(folder, f".{name}{_LOCK}", option) as lock:
        if _is_held(lock, folder):
            print(f"another process makes {folder / name}: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def no_pattern(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A whole path to a folder that TensorFlow takes for no pattern, while the context lasts.

    It looks for the weights of a SavedModel by pattern, in which nothing can be quoted.
    """
    folder = folder.absolute()
    if not _PATTERN.search(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = pathlib.Path(place) / "folder"
        link.symlink_to(folder)
        yield link


@contextlib.contextmanager
def scratch(folder: pathlib.Path, prefix: str) -> Iterator[pathlib.Path]:
    """A folder within a folder, for as long as the context lasts.

    Those of processes that were killed are removed first; one whose process lives, perhaps on
    another machine, is left alone.
    """
    for left in folder.glob(f"{prefix}*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as made,
        open(pathlib.Path(made) / _LOCK, "x") as lock,
    ):
        with contextlib.suppress(OSError):  # Without locks nobody takes it for abandoned.
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield pathlib.Path(made)


def _is_abandoned(folder: pathlib.Path) -> bool:
    """Whether the process that made a scratch folder lives no more."""
    try:
        with open(folder / _LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock(folder: pathlib.Path) -> IO[str]:
    """The open file whose lock says who writes into a folder."""
    path = folder / _LOCK
    while True:
        file = _open_lock(folder, _LOCK, "workdir")
        if _is_held(file, folder):
            holder = file.read() or "another process"
            file.close()
            raise InputError(
                f"{folder} is being written by {holder}: wait until that ends, or name another "
                "--workdir"
            )
        # Its holder may have removed the file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file


def _open_lock(folder: pathlib.Path, name: str, option: str) -> IO[str]:
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        return os.fdopen(os.open(folder / name, flags, 0o666), "r+")
    except OSError as error:
        raise InputError(f"--{option}={folder} cannot be written: {error.strerror}") from error


def _is_held(lock: IO[str], folder: pathlib.Path) -> bool:
    """Whether another process holds a lock; if none does, this one holds it from now on."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(f"{folder} cannot be locked: write to it once at a time", stacklevel=4)
    return False
