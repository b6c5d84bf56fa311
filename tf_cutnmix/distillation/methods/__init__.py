"""One paper, one file: its recipe, its parts, its formulas.

Each file puts its methods into `METHODS` under their functions' own names, and each file here is
imported with the package: to add a method, write one.
"""

import importlib
import pkgutil

from tf_cutnmix.distillation.method import METHODS

__all__ = ["METHODS"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
