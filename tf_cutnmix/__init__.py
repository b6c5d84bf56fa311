"""Online distillation with mixed samples: peers, Cut^nMix and a moving-average teacher."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Config",
    "CropAndFlip",
    "CutMix",
    "CutNMix",
    "FMix",
    "Method",
    "MixUp",
    "OnlineDistiller",
    "adapt",
    "build_network",
    "cutnmix",
    "join_unlabelled",
    "mix_dataset",
    "share_stages",
    "train_and_evaluate",
]

_OFFER = ("runs.config", "mixing", "networks", "distillation", "runs.experiment")

if TYPE_CHECKING:
    from tf_cutnmix.distillation import Method, OnlineDistiller
    from tf_cutnmix.mixing import (
        CropAndFlip,
        CutMix,
        CutNMix,
        FMix,
        MixUp,
        cutnmix,
        join_unlabelled,
        mix_dataset,
    )
    from tf_cutnmix.networks import adapt, build_network, share_stages
    from tf_cutnmix.runs.config import Config
    from tf_cutnmix.runs.experiment import train_and_evaluate
else:  # It would have every name, for a type checker.

    def __getattr__(name: str) -> Any:
        """What the package offers, when it is asked for: `--help` does not wait for TensorFlow.

        Raises:
          InputError: Keras is told, in its own places, what this package cannot do.
        """
        if name in __all__:
            from tf_cutnmix import keras_choices

            keras_choices.check()
            for place in _OFFER:
                module = importlib.import_module(f"{__name__}.{place}")
                if name in vars(module):
                    return vars(module)[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
