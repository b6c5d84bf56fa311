"""A process that has TensorFlow but not this package, in which exports are tried."""

import contextlib
import contextvars
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources

from tf_cutnmix.errors import RunError, last_line

# Its text, which a package in a zip file has as well.
_SCRIPT = resources.files("tf_cutnmix.serving").joinpath("serve_requests.py").read_text("utf-8")


class FreshProcess:
    """Such a process, which is there from the first call of `begin` or `answer` on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> subprocess.Popen[str]:
        """Start it, if it is not there: it imports TensorFlow while the caller goes on."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-P", "-c", _SCRIPT],  # its last words come last
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for the caller
            )
        return self._process

    def answer(self, savedmodel: pathlib.Path, request: pathlib.Path, answer: pathlib.Path) -> None:
        """Write what an export answers to a request, both files as `serve_requests` has them.

        Raises:
          RunError: it does not load, or does not answer; the process is gone.
        """
        process = self.begin()
        assert process.stdin is not None
        assert process.stdout is not None
        paths = [str(path.absolute()) for path in (savedmodel, request, answer)]
        # One that has ended takes no request, and has written why.
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(paths), file=process.stdin, flush=True)
        printed = []
        for line in process.stdout:
            if line.endswith("answered\n"):
                return
            printed.append(line)
        code = process.wait()
        reason = last_line("".join(printed)) if code >= 0 else f"signal {-code} has ended it"
        self.close()
        raise RunError(f"the export does not load with TensorFlow alone: {reason}")

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None


_outer: contextvars.ContextVar[FreshProcess] = contextvars.ContextVar("outer")


@contextlib.contextmanager
def fresh_process() -> Iterator[FreshProcess]:
    """One for all exports of a block: a block within another has the other's."""
    if outer := _outer.get(None):
        yield outer
        return
    with contextlib.closing(FreshProcess()) as process:
        token = _outer.set(process)
        try:
            yield process
        finally:
            _outer.reset(token)
