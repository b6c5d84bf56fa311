"""What happens to a batch before the networks see it: augmented, and samples mixed.

Sampling is apart from applying: `sampling` makes a draw from (seed, step), `pasting` has pure
functions of a batch and a draw. Read `draws` (random numbers that are equal everywhere), `augment`,
`sampling`, `pasting`, `batch` (what a batch must be), `layers`, `dataset`.
"""

from tf_cutnmix.mixing.augment import CropAndFlip
from tf_cutnmix.mixing.dataset import mix_dataset
from tf_cutnmix.mixing.layers import CutMix, CutNMix, FMix, Mixing, MixUp, cutnmix

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
