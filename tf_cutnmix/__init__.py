"""Online distillation with mixed samples: peers, Cut^nMix and a moving-average teacher."""

import sys

__version__ = "0.1.0"

# While Python looks for the module of `python -m tf_cutnmix.train`, argv[0] is "-m". The
# commands import what they need themselves: --help does not wait for TensorFlow.
if sys.argv[:1] != ["-m"]:
    from tf_cutnmix.architectures import adapt, build_network
    from tf_cutnmix.augment import CropAndFlip
    from tf_cutnmix.config import Config
    from tf_cutnmix.distiller import OnlineDistiller
    from tf_cutnmix.experiment import train_and_evaluate
    from tf_cutnmix.methods import Method
    from tf_cutnmix.mixing import CutMix, CutNMix, FMix, MixUp, cutnmix, mix_dataset
    from tf_cutnmix.sharing import share_stages

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
