"""Writing a file so that nothing is lost."""

import contextlib
import os
import pathlib

from tf_cutnmix.errors import RunError


def write(path: pathlib.Path, content: bytes) -> None:
    """Write a file all or not at all.

    It is written beside its place and then renamed: a reader finds the old content or the new.

    Raises:
      RunError: it cannot be written; a file that was there before is as it was.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
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
