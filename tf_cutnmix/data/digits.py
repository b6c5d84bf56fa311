"""scikit-learn's handwritten digits: real pictures that need no download."""

from collections.abc import Iterator

import numpy as np
import sklearn

from tf_cutnmix.data.collecting import Example, Source
from tf_cutnmix.data.images import prepare
from tf_cutnmix.data.splits import select

_TEST = 360


def source(split: str, image_size: int) -> Source:
    """One split; the last 360 digits are the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    pixels = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    count = len(digits.target)
    splits = {"train": range(count - _TEST), "test": range(count - _TEST, count)}
    positions = select("digits", split, splits)

    def examples() -> Iterator[Example]:
        for position in positions:
            image = np.asarray(prepare(pixels[position], image_size))
            yield Example(image, digits.target[position])

    return Source(
        "digits",
        examples,
        len(positions),
        tuple(str(name) for name in digits.target_names),
        lambda i: f"digit {positions[i]}",
        lambda: [sklearn.__version__],
    )
