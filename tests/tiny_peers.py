"""Peers of two stages for tests of what trains several networks together."""

import keras
from tiny_networks import tiny

CLASSES = 10


def tiny_peer(size: int = 6, stem: int = 4) -> keras.Model:
    """A peer for images of 8x8 pixels whose last map has `size` channels."""
    return tiny((8, 8, 3), CLASSES, size=size, stem=stem)
