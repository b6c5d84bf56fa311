"""Names of methods and formats, for `--help`, which does not wait for TensorFlow."""

import ast
import pathlib

from tf_cutnmix.errors import unknown
from tf_cutnmix.settings import split_names

_PACKAGE = pathlib.Path(__file__).parents[1]
_METHODS = _PACKAGE / "distillation" / "methods"
_FORMATS = _PACKAGE / "serving" / "formats"


def methods() -> tuple[str, ...]:
    """The keys of `METHODS`: every function under `@recipe(...)` in the files of the methods."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(_METHODS.glob("*.py"))]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    return tuple(function.name for function in functions if _is_recipe(function))


def formats() -> tuple[str, ...]:
    """What `--export_format` takes: "savedmodel" and each file of the formats."""
    names = [path.stem for path in sorted(_FORMATS.glob("[!_]*.py"))]
    return ("savedmodel", *(name for name in names if name != "format"))


def chosen_formats(export_format: str) -> tuple[str, ...]:
    """The formats of a comma list, beside the SavedModel that each export holds.

    Raises:
      InputError: there is no such format.
    """
    chosen = dict.fromkeys(split_names(export_format))
    for name in chosen:
        if name not in formats():
            raise unknown("--export_format", name, formats())
    return tuple(name for name in chosen if name != "savedmodel")


def _is_recipe(function: ast.FunctionDef) -> bool:
    calls = [one.func for one in function.decorator_list if isinstance(one, ast.Call)]
    return any(isinstance(called, ast.Name) and called.id == "recipe" for called in calls)
