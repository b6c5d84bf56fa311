"""All commands under one name: `tf-cutnmix train`, which is `python -m tf_cutnmix train` too."""

import functools
import importlib
import sys

import tf_cutnmix
from tf_cutnmix import command
from tf_cutnmix.errors import InputError, unknown

COMMANDS = {
    "train": "train networks together, report on test images, export",
    "evaluate": "how good an export is on a data set",
    "predict": "what an export says of pictures",
    "try": "a page to try an export in",
    "export": "export a finished run once more, also for other runtimes",
    "sweep": "train once for each combination of settings",
    "report": "compare finished runs",
}


def main() -> int:
    """Run the command that `sys.argv` names; its exit code."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name not in COMMANDS:
        return command.ending(functools.partial(_tell, name))
    module = importlib.import_module(f"tf_cutnmix.{name}")
    return command.run(module.__name__, module.SUMMARY, module.Settings, module.main, arguments)


def _tell(name: str) -> None:
    """Print what is asked for in a command's place.

    Raises:
      InputError: it is neither a command nor a question.
    """
    if name == "--version":
        print(f"tf_cutnmix {tf_cutnmix.__version__}")
    elif name in ("help", *command.HELP):
        print("usage: tf-cutnmix COMMAND [--flag=value ...]\n")
        for known, does in COMMANDS.items():
            print(f"  {known:<10}{does}")
        print(
            "\ntf-cutnmix COMMAND --help lists its flags, tf-cutnmix --version tells the version."
        )
        print("python -m tf_cutnmix.COMMAND does the same.")
    elif name.startswith("-"):
        raise InputError(f"{name} stands in a command's place: name {', '.join(COMMANDS)} first")
    else:
        raise unknown("command", name, COMMANDS)
