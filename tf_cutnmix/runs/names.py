"""The names of the methods, for `--help`, which does not wait for TensorFlow."""

import ast
import pathlib

_METHODS = pathlib.Path(__file__).parents[1] / "distillation" / "methods"


def methods() -> tuple[str, ...]:
    """The keys of `METHODS`: every function under `@recipe(...)` in the files of the methods."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(_METHODS.glob("*.py"))]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    return tuple(function.name for function in functions if _is_recipe(function))


def _is_recipe(function: ast.FunctionDef) -> bool:
    calls = [one.func for one in function.decorator_list if isinstance(one, ast.Call)]
    return any(isinstance(called, ast.Name) and called.id == "recipe" for called in calls)
