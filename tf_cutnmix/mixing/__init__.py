"""What happens to a batch before the networks see it: augmented, and samples mixed.

Sampling is apart from applying: `sampling` and `masks` make a draw from (seed, step); `pasting`
and `labels` are pure functions of a batch and a draw. Read `draws` (random integers that are
equal everywhere), `augment`, `quantiles`, `sampling`, `masks`, `pasting`, `labels`, `batch`
(what a batch must be), `layer`, `layers`, `function`, `dataset`.
"""

from tf_cutnmix.mixing.augment import CropAndFlip
from tf_cutnmix.mixing.dataset import mix_dataset
from tf_cutnmix.mixing.function import cutnmix
from tf_cutnmix.mixing.layer import Mixing
from tf_cutnmix.mixing.layers import CutMix, CutNMix, FMix, MixUp

__all__ = [
    "CropAndFlip",
    "CutMix",
    "CutNMix",
    "FMix",
    "MixUp",
    "Mixing",
    "cutnmix",
    "mix_dataset",
]
