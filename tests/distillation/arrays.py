"""Random logits, labels and features, float64 or float32 as NumPy makes them."""

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from scipy.special import log_softmax

SAMPLES, COLUMNS, FEATURES, PEERS = 5, 7, 6, 3
seeds = st.integers(0, 2**32 - 1)


def random_logits(seed: int, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (SAMPLES, COLUMNS)).astype(np.float32)


def random_distributions(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.full(COLUMNS, 0.5), SAMPLES).astype(np.float32)


def random_features(seed: int, size: int = FEATURES) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (SAMPLES, size)).astype(np.float32)


def random_peers(seed: int, peers: int = PEERS, scale: float = 3.0) -> np.ndarray:
    """Logits of several peers, each surer than the next of what the labels say."""
    generator = np.random.default_rng(seed)
    labels = random_distributions(seed + 1)
    noise = generator.normal(0, scale, (peers, SAMPLES, COLUMNS))
    return (noise + scale * generator.uniform(0, 2, (peers, 1, 1)) * labels).astype(np.float32)


def entropies(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The cross-entropy of each sample."""
    return -np.sum(labels * log_softmax(logits.astype(np.float64), axis=-1), axis=-1)


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def gradient(function, *arguments: np.ndarray) -> list:
    """Of a scalar function, with respect to each argument."""
    tensors = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return tape.gradient(value, tensors)
