"""How good predictions are, and how unlike each other."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf


def predictions(signature: Callable, pixels: np.ndarray, batch_size: int) -> np.ndarray:
    """Probabilities `[N, K]` for images `[N, H, W, 3]` uint8."""
    starts = range(0, len(pixels), batch_size)
    batches = (tf.constant(pixels[start : start + batch_size]) for start in starts)
    return np.concatenate([signature(images=b)["probabilities"].numpy() for b in batches])


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, top-5 accuracy, negative log likelihood and expected calibration error.

    Args:
      probabilities: `[N, K]`, rows sum to 1. A row that is not finite says nothing: it is a
        wrong answer of confidence 0.
      labels: `[N]`, class numbers.

    Returns:
      The four figures and the number of images. Of equally probable classes the first is the
      answer, and comes first among the five. The calibration error is that of Guo et al. (2017),
      equation 3, with 15 bins of equal width; the likelihood is in nats per image, at least
      `log 1e-30`.
    """
    finite, said = _finite(probabilities)
    own = said[np.arange(len(labels)), labels][:, None]
    before = np.arange(said.shape[1]) < labels[:, None]
    rank = np.sum((said > own) | ((said == own) & before), axis=1)
    return {
        "images": len(labels),
        "accuracy": float(np.mean((rank == 0) & finite)),
        "top5_accuracy": float(np.mean((rank < 5) & finite)),
        "negative_log_likelihood": float(-np.mean(np.log(np.maximum(own, 1e-30)))),
        "calibration_error": calibration_error(probabilities, labels),
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """`sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|` over bins `((b-1)/M, b/M]`.

    What rounding lifts above 1 is in the last bin.
    """
    finite, probabilities = _finite(probabilities)
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels) & finite
    index = np.minimum(np.ceil(confidence * bins).astype(int), bins)
    gaps = [np.sum(right[index == b]) - np.sum(confidence[index == b]) for b in range(bins + 1)]
    return float(np.sum(np.abs(gaps)) / len(labels))


def _finite(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are finite, and the rows with zeros in place of the others."""
    finite = np.isfinite(probabilities).all(axis=1)
    return finite, np.where(finite[:, None], probabilities, 0)


def diversity(probabilities: np.ndarray) -> dict[str, float]:
    """How unlike the predictions `[n, N, K]` of `n` networks are, means over pairs; {} for one.

    Returns:
      The part of the images that two networks label differently, and the Euclidean distance of
      their probabilities.
    """
    pairs = list(itertools.combinations(probabilities, 2))
    if not pairs:
        return {}
    return {
        "disagreement": float(np.mean([a.argmax(-1) != b.argmax(-1) for a, b in pairs])),
        "distance": float(np.mean([np.linalg.norm(a - b, axis=-1) for a, b in pairs])),
    }
