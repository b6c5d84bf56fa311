"""Online distillation with mixed samples: peers, Cut^nMix and a moving-average teacher.

The names are imported when they are first used, so that `python -m tf_cutnmix.train --help`
answers without waiting for TensorFlow.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "CropAndFlip": "augment",
    "CutMix": "mixing",
    "CutNMix": "mixing",
    "Method": "methods",
    "MixUp": "mixing",
    "OnlineDistiller": "distiller",
    "build_network": "architectures",
    "cutnmix": "mixing",
    "mix_dataset": "mixing",
    "train_and_evaluate": "experiment",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
