"""From the name of a data set to uint8 batches.

Read `images` (what every source ends as), `splits`, `resizing` and `decode` (a file's bytes to
pixels, in training and in exports), `pictures` (any file's), `folder`, `table` and `tfds`
(sources), `cache` (images kept for later runs), `sources` (which of them a name is), `batches`.
"""

from tf_cutnmix.data.batches import endless_batches, ordered_batches, shuffled_batches
from tf_cutnmix.data.images import Images
from tf_cutnmix.data.resizing import resize
from tf_cutnmix.data.sources import has_direction, load, load_unlabelled, own_validation
from tf_cutnmix.data.splits import draw, fold, hold_out

__all__ = [
    "Images",
    "draw",
    "endless_batches",
    "fold",
    "has_direction",
    "hold_out",
    "load",
    "load_unlabelled",
    "ordered_batches",
    "own_validation",
    "resize",
    "shuffled_batches",
]
