"""From the name of a data set to uint8 batches.

Read `images` (what every source ends as), `collecting` (how it gets there), `held_out`, `splits`,
`decode` (a file's bytes to pixels, in training and in exports), `raw` (what is no picture yet),
`by_pillow` (other files' bytes), `layout` (whose files are whose), the sources `digits`, `folder`
and `tfds`, `cache` (images that lie ready), `sources` (which of them a name is), `batches`.
"""

from tf_cutnmix.data.batches import ordered_batches, shuffled_batches
from tf_cutnmix.data.held_out import draw, hold_out
from tf_cutnmix.data.images import Images, resize
from tf_cutnmix.data.sources import has_direction, load, own_validation

__all__ = [
    "Images",
    "draw",
    "has_direction",
    "hold_out",
    "load",
    "ordered_batches",
    "own_validation",
    "resize",
    "shuffled_batches",
]
