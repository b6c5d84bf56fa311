"""scikit-learn's handwritten digits: real pictures that need no download."""

import numpy as np
import tensorflow as tf

from tf_cutnmix.data.images import Images, collect, prepare
from tf_cutnmix.data.splits import select

_TEST = 360


def load(split: str, image_size: int) -> Images:
    """Read one split; the last 360 digits are the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = tf.constant(np.round(digits.images[..., np.newaxis] * (255 / 16)), tf.uint8)
    count = len(digits.target)
    splits = {"train": range(count - _TEST), "test": range(count - _TEST, count)}
    positions = select("digits", split, splits)
    chosen = (tf.gather(pixels, positions), digits.target[positions])
    return collect(
        tf.data.Dataset.from_tensor_slices(chosen),
        lambda image, label: (prepare(image, image_size), label),
        len(positions),
        tuple(str(name) for name in digits.target_names),
        lambda i: f"digit {positions[i]}",
    )
