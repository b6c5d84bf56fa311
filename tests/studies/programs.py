"""The programs of the studies, which lie in no package."""

import importlib.util
import pathlib
import types

STUDIES = pathlib.Path(__file__).parents[2] / "studies"


def load(path: pathlib.Path) -> types.ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
