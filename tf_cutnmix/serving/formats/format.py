"""What a format of an export is."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# From pixels `[N, H, W, C]` uint8 to the arrays that the signature `portable` answers with.
Answer = Callable[[np.ndarray], dict[str, np.ndarray]]


class Format(NamedTuple):
    """A way to store an export for a runtime that is not TensorFlow.

    Attributes:
      name: as `--export_format` has it.
      extra: of this package, which brings what it needs.
      packages: the modules that it needs.
      file: its name in the export.
      any_size: whether it resizes images itself; else it takes those of the networks' size.
      exact: whether its answers are the networks' to the last digits.
      convert: writes the file from a SavedModel, and images to calibrate on, uint8.
      load: the file in its own runtime.
    """

    name: str
    extra: str
    packages: tuple[str, ...]
    file: str
    any_size: bool
    exact: bool
    convert: Callable[[pathlib.Path, pathlib.Path, np.ndarray], None]
    load: Callable[[pathlib.Path], Answer]
