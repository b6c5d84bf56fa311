"""What a step may have computed, for the tests of single methods."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from tests.tiny_peers import CLASSES
from tf_cutnmix.distillation.method import Forward

BATCH = 4
EXPORT = pathlib.Path(__file__).parents[3] / "savedmodels" / "digits_resnet8" / "1"


def images_of(count: int = BATCH, seed: int = 0, size: int = 8) -> np.ndarray:
    shape = (count, size, size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def labels_of(count: int = BATCH, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(CLASSES), count).astype("float32")


def forward_of(views: list, outputs: list | None = None) -> Forward:
    return Forward(
        tf.constant(0), tf.constant(labels_of()), [tf.constant(v) for v in views], outputs or []
    )


def outputs_of(peers: list[keras.Model], views: list) -> list[dict]:
    return [peer(view, training=False) for peer, view in zip(peers, views, strict=True)]
