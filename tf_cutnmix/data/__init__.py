"""From the name of a data set to uint8 batches.

Read `images` (what every source ends as), `splits`, the sources `digits`, `folder` and `tfds`,
`sources` (which of them a name is), `batches`.
"""

from tf_cutnmix.data.batches import ordered_batches, shuffled_batches
from tf_cutnmix.data.images import Images, hold_out, resize
from tf_cutnmix.data.sources import has_direction, load

__all__ = [
    "Images",
    "has_direction",
    "hold_out",
    "load",
    "ordered_batches",
    "resize",
    "shuffled_batches",
]
