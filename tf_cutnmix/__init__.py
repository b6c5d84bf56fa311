"""Online distillation with mixed samples: peers, Cut^nMix and a moving-average teacher."""

import sys

__version__ = "0.1.0"

# While Python looks for the module of `python -m tf_cutnmix.train`, argv[0] is "-m". The
# commands import what they need themselves: --help does not wait for TensorFlow.
if sys.argv[:1] != ["-m"]:
    from tf_cutnmix import keras_choices

    keras_choices.check()
    from tf_cutnmix.distillation import Method, OnlineDistiller
    from tf_cutnmix.mixing import (
        CropAndFlip,
        CutMix,
        CutNMix,
        FMix,
        MixUp,
        cutnmix,
        mix_dataset,
    )
    from tf_cutnmix.networks import adapt, build_network, share_stages
    from tf_cutnmix.runs.config import Config
    from tf_cutnmix.runs.experiment import train_and_evaluate

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
    "mix_dataset",
    "share_stages",
    "train_and_evaluate",
]
