"""A page to try an export in: `python -m tf_cutnmix.try --savedmodel=DIR`."""

# A command has the name of its module, and this one is also a word of Python's.
# ruff: noqa: N999

import dataclasses
import importlib.util
import os
import sys
import tempfile
import threading

from tf_cutnmix import command, exports
from tf_cutnmix.errors import InputError
from tf_cutnmix.settings import Rule, check, setting

SUMMARY = """\
Serves a page on this machine: drop a picture or use the camera, and see the classes with their
probabilities, and what speaks for them. Pictures stay here, and are gone when it ends (Ctrl-C).
It needs Gradio: pip install 'tf_cutnmix[demo]'.

  python -m tf_cutnmix.try --savedmodel=runs/pictures"""
_PORT = Rule(lambda value: 0 <= value < 2**16, "a whole number from 0 to 65,535")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the page.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    savedmodel: str = exports.savedmodel("page")
    port: int = setting(0, "page", "of the page; 0: the first free one from 7860 on", rule=_PORT)

    def __post_init__(self) -> None:
        check(self)
        exports.check_named(self.savedmodel)


def main(settings: Settings) -> None:
    """Serve the page until the process is asked to end."""
    exports.find(settings.savedmodel, "savedmodel")
    if importlib.util.find_spec("gradio") is None:
        raise InputError("the page needs gradio, not installed: pip install 'tf_cutnmix[demo]'")
    with tempfile.TemporaryDirectory(prefix="tf_cutnmix-") as pictures:
        os.environ["GRADIO_TEMP_DIR"] = pictures
        with command.quiet_tensorflow():
            from tf_cutnmix import demo
            from tf_cutnmix.networks import served
        export = served.load(settings.savedmodel, "savedmodel")
        page, address = demo.serve(export, settings.savedmodel, settings.port)
        print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.try", SUMMARY, Settings, main))
