"""Python in a process of its own, and a limit that the system sets to a process."""

import contextlib
import pathlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


def python(*arguments: str, cwd: pathlib.Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """What Python does with arguments, and prints, in a folder."""
    options |= {"capture_output": True, "text": True, "check": False}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, **options)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: the system refuses, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
