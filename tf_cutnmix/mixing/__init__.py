"""What happens to a batch before the networks see it: augmented, and samples mixed.

A draw is apart from what it does: `Mixing.draw` makes it from (seed, step), `Mixing.apply` is a
pure function of a batch and a draw. Read `draws` (random numbers that are equal everywhere),
`augment`, `batch` (what a batch must be), `sampling`, `layers`, `dataset`, `unlabelled`.
"""

from tf_cutnmix.mixing.augment import CropAndFlip
from tf_cutnmix.mixing.dataset import mix_dataset
from tf_cutnmix.mixing.layers import CutMix, CutNMix, FMix, Mixing, MixUp, cutnmix
from tf_cutnmix.mixing.unlabelled import interleave, join_unlabelled

__all__ = [
    "CropAndFlip",
    "CutMix",
    "CutNMix",
    "FMix",
    "MixUp",
    "Mixing",
    "cutnmix",
    "interleave",
    "join_unlabelled",
    "mix_dataset",
]
