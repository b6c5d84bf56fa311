"""scikit-learn's handwritten digits: real pictures that need no download."""

from collections.abc import Iterable

import numpy as np
import sklearn
import tensorflow as tf

from tf_cutnmix.data.collecting import Source
from tf_cutnmix.data.images import prepare
from tf_cutnmix.data.splits import select

_TEST = 360


def source(split: str, image_size: int) -> Source:
    """One split; the last 360 digits are the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images[..., np.newaxis] * (255 / 16)).astype(np.uint8)
    count = len(digits.target)
    splits = {"train": range(count - _TEST), "test": range(count - _TEST, count)}
    positions = select("digits", split, splits)

    def examples() -> Iterable[tuple[np.ndarray, int]]:
        images = prepare(tf.constant(pixels[positions]), image_size).numpy()
        return zip(images, digits.target[positions], strict=True)

    return Source(
        "digits",
        examples,
        len(positions),
        tuple(str(name) for name in digits.target_names),
        lambda i: f"digit {positions[i]}",
        lambda: [sklearn.__version__],
    )
