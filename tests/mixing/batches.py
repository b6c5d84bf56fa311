"""Batches, draws and layers that the tests of mixing share."""

import keras
import numpy as np

from tf_cutnmix import CutMix, CutNMix, MixUp
from tf_cutnmix.mixing import sampling
from tf_cutnmix.mixing.layers import FMix
from tf_cutnmix.mixing.sampling import Draw

NUM_CLASSES = 10
ONE_VIEW = [CutMix, MixUp, FMix]
LAYERS = [CutNMix, *ONE_VIEW]


def sample(batch, height, width, *, seed=0, step=0, alpha=1.0, num_peers=2, **settings):
    """A draw as NumPy arrays."""
    shape = (batch, height, width)
    draw = sampling.sample(seed, step, shape, alpha=alpha, num_peers=num_peers, **settings)
    return Draw(*(part.numpy() for part in draw))


def index_images(batch, height, width, dtype="int32"):
    """Images whose every pixel holds the index of its sample."""
    return np.ones([batch, height, width, 1], dtype) * np.arange(batch)[:, None, None, None]


def photos(size=6, height=5, width=8, labels="integer", **entries):
    """A batch of random uint8 images with labels of one kind, and further entries."""
    random = np.random.default_rng(1)
    images = random.integers(256, size=[size, height, width, 3]).astype("uint8")
    return {"images": images, "labels": make_labels(size, labels), **entries}


def make_labels(size, kind):
    random = np.random.default_rng(2)
    classes = random.integers(NUM_CLASSES, size=size)
    soft = random.dirichlet(np.ones(NUM_CLASSES), size)
    return {"integer": classes, "one-hot": np.eye(NUM_CLASSES)[classes], "soft": soft}[kind]


def to_numpy(structure):
    return keras.tree.map_structure(np.asarray, structure)
