"""Batches and draws that the tests of mixing share."""

import keras
import numpy as np

from tf_cutnmix import CutMix, CutNMix, FMix, MixUp

NUM_CLASSES = 10
LAYERS = [CutNMix, CutMix, MixUp, FMix]


def draw(batch, height, width, *, layer=CutNMix, step=0, **settings):
    """A draw as NumPy arrays."""
    drawn = layer(**{"seed": 0, **settings}).draw(step, (batch, height, width))
    return type(drawn)(*(part.numpy() for part in drawn))


def index_images(batch, height, width, dtype="int32"):
    """Images whose every pixel holds the index of its sample."""
    return np.ones([batch, height, width, 1], dtype) * np.arange(batch)[:, None, None, None]


def photos(size=6, height=5, width=8, labels="integer", **entries):
    """A batch of random uint8 images with labels of one kind, and further entries."""
    random = np.random.default_rng(1)
    images = random.integers(256, size=[size, height, width, 3]).astype("uint8")
    return {"images": images, "labels": make_labels(size, labels), **entries}


def views():
    """A batch of other random pixels for each of three peers."""
    images = np.random.default_rng(3).integers(256, size=[6, 3, 5, 8, 3]).astype("uint8")
    return {"images": images, "labels": make_labels(6, "integer")}


def make_labels(size, kind):
    random = np.random.default_rng(2)
    classes = random.integers(NUM_CLASSES, size=size)
    soft = random.dirichlet(np.ones(NUM_CLASSES), size)
    return {"integer": classes, "one-hot": np.eye(NUM_CLASSES)[classes], "soft": soft}[kind]


def to_numpy(structure):
    return keras.tree.map_structure(np.asarray, structure)
