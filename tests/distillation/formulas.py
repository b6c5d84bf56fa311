"""The formulas that several methods share, in NumPy and float64, and what they are formulas of.

In `references`, a function of a method's name has the terms of its paper by name, but for the
cross-entropy of the peers. `s` is the step that learns, `t` the one that stopped targets are made
of, and `parts` are the method's, by name.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tf_cutnmix.distillation.method import Forward

BATCH = 6
TEMPERATURE = 2.5


@dataclasses.dataclass
class Step:
    """What one step computed, float64: for each peer its logits, features, maps and average.

    Cross-entropies to the labels take them `weighted`.
    """

    labels: np.ndarray
    weighted: np.ndarray
    views: list
    logits: list
    features: list
    stage1: list
    stage2: list
    averages: list

    def forward(self, step: int = 7, dtype: str = "float32") -> Forward:
        names = ("logits", "features", "stage1", "stage2")
        outputs = [
            {name: tf.constant(getattr(self, name)[k], dtype) for name in names}
            for k in range(len(self.logits))
        ]
        return Forward(
            tf.constant(step, tf.int64),
            tf.constant(self.labels, tf.float32),
            [tf.constant(view, tf.float32) for view in self.views],
            outputs,
            [{"logits": tf.constant(logits, dtype)} for logits in self.averages],
            weighted_labels=tf.constant(self.weighted, tf.float32),
        )

    def moved(self, name: str, peer: int, by: np.ndarray) -> "Step":
        arrays = list(getattr(self, name))
        arrays[peer] = arrays[peer] + by
        return dataclasses.replace(self, **{name: arrays})


def cross_entropy(labels: np.ndarray, logits: np.ndarray) -> float:
    return -np.mean(np.sum(labels * log_softmax(logits, -1), -1))


def peers_cross_entropy(s: Step) -> float:
    return sum(cross_entropy(s.weighted, logits) for logits in s.logits)


def kl(target: np.ndarray, logits: np.ndarray) -> float:
    """`T^2 KL(target || softmax(z / T))`."""
    ratio = np.log(target) - log_softmax(logits / TEMPERATURE, -1)
    return TEMPERATURE**2 * np.mean(np.sum(target * ratio, -1))


def kd(target: np.ndarray, logits: np.ndarray) -> float:
    return kl(softmax(target / TEMPERATURE, -1), logits)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def dense(layer: keras.layers.Dense, x: np.ndarray) -> np.ndarray:
    kernel, *bias = (np.float64(weight) for weight in layer.get_weights())
    return x @ kernel + (bias[0] if bias else 0.0)


def batch_norm(layer: keras.layers.BatchNormalization, x: np.ndarray) -> np.ndarray:
    """As in training: by the statistics of the batch."""
    axes = tuple(range(x.ndim - 1))
    scaled = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)
    return scaled * np.float64(layer.gamma) + np.float64(layer.beta)


def others(count: int, i: int) -> list[int]:
    return [j for j in range(count) if j != i]


def mutual(s: Step, targets: list) -> float:
    n = len(s.logits)
    return sum(np.mean([kd(targets[j], s.logits[i]) for j in others(n, i)]) for i in range(n))


def each(targets: list, logits: list) -> float:
    return sum(kd(target, z) for target, z in zip(targets, logits, strict=True))


def to_all(target: np.ndarray, s: Step) -> float:
    return sum(kd(target, logits) for logits in s.logits)
