"""How good predictions are, and how unlike each other."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special, stats

if TYPE_CHECKING:  # a report needs no TensorFlow
    from tf_cutnmix.data.images import Pixels

_AT_ONCE = 500
# Of each image in such a batch.
_PIXELS = 32 * 32


def images_at_once(height: int, width: int) -> int:
    """How many images a network is to answer at once: 500, fewer of more than 32 x 32 pixels."""
    return min(max(_AT_ONCE * _PIXELS // (height * width), 1), _AT_ONCE)


def predictions(signature: Callable, pixels: "Pixels", batch_size: int) -> np.ndarray:
    """Probabilities `[N, K]` for images `[N, H, W, 3]` uint8."""
    starts = range(0, len(pixels), batch_size)
    batches = (pixels[start : start + batch_size] for start in starts)
    return np.concatenate([signature(images=b)["probabilities"].numpy() for b in batches])


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, balanced and of the top 5, negative log likelihood, expected calibration error.

    Args:
      probabilities: `[N, K]`, rows sum to 1. A row that is not finite is a wrong prediction of
        confidence 0.
      labels: `[N]`, class numbers.

    Returns:
      The five figures, the number of images, and of the `classes` that have some. Balanced
      accuracy is the mean recall of these. Of equally probable classes the first is predicted,
      and comes first among the five. The calibration error is that of Guo et al. (2017),
      equation 3, with 15 bins of equal width; the likelihood is in nats per image, at least
      `log 1e-30`.
    """
    finite, known = _finite(probabilities)
    own = known[np.arange(len(labels)), labels][:, None]
    before = np.arange(known.shape[1]) < labels[:, None]
    rank = np.sum((known > own) | ((known == own) & before), axis=1)
    return {
        "images": len(labels),
        "classes": len(np.unique(labels)),
        "accuracy": float(np.mean((rank == 0) & finite)),
        "balanced_accuracy": float(np.nanmean(recall(probabilities, labels))),
        "top5_accuracy": float(np.mean((rank < 5) & finite)),
        "negative_log_likelihood": float(-np.mean(np.log(np.maximum(own, 1e-30)))),
        "calibration_error": calibration_error(probabilities, labels),
    }


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, from 1/20 to 20, at which predictions `[N, K]` are likeliest for labels.

    Guo et al. 2017, of logits that are the logarithms of the probabilities.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        softened = soften(probabilities, np.exp(log_temperature))
        return scores(softened, labels)["negative_log_likelihood"]

    bounds = (-np.log(20), np.log(20))
    found = optimize.minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """`softmax(log(p) / T)` of predictions `[N, K]`; rows that are not finite stay as they are."""
    return special.softmax(np.log(np.maximum(probabilities, 1e-30)) / temperature, axis=-1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """`sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|` over bins `((b-1)/M, b/M]`."""
    _, confident, right = calibration(probabilities, labels, bins)
    return float(np.sum(np.abs(right - confident)) / len(labels))


def calibration(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many images are in each bin of confidence, the sums of their confidence, of them right.

    Three arrays `[bins + 1]`. Bin b holds confidences in `((b-1)/M, b/M]`, the last one what
    rounding lifts above 1 too, and bin 0 rows that are not finite.
    """
    finite, probabilities = _finite(probabilities)
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels) & finite
    index = np.minimum(np.ceil(confidence * bins).astype(int), bins)
    counts, *sums = (np.bincount(index, w, bins + 1) for w in (None, confidence, right))
    return counts, sums[0], sums[1]


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The confusion matrix `[K, K]`: images of each class (rows) predicted as each (columns).

    An image whose row is not finite is in no column.
    """
    finite, probabilities = _finite(probabilities)
    counts = np.zeros((probabilities.shape[1],) * 2, np.int64)
    np.add.at(counts, (labels[finite], probabilities[finite].argmax(axis=1)), 1)
    return counts


def recall(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The recall of each class: `[K]`, NaN for a class without images."""
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    return _part(np.diag(confusion(probabilities, labels)), counts)


def precision_and_f1(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Two figures of each class, `[K]` each.

    Returns:
      Precision, NaN for a class that is never predicted; the harmonic mean of precision and
      recall, NaN for one that has no images either.
    """
    counts = confusion(probabilities, labels)
    right, predicted = np.diag(counts), counts.sum(axis=0)
    images = np.bincount(labels, minlength=len(counts))
    return _part(right, predicted), _part(2 * right, predicted + images)


def _part(some: np.ndarray, every: np.ndarray) -> np.ndarray:
    return np.where(every > 0, some / np.maximum(every, 1), np.nan)


def interval(part: float, count: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a part of `count` images that was seen (Wilson 1927)."""
    ends = stats.binomtest(round(part * count), count).proportion_ci(0.95, method="wilson")
    return float(ends.low), float(ends.high)


def unbalanced(counts: Sequence[int]) -> bool:
    """Whether one class has over three times as many images as another."""
    return max(counts) > 3 * min(counts)


def represented(counts: Sequence[int]) -> str:
    """How many classes have images, in words: 4 of 5."""
    return f"{np.count_nonzero(counts)} of {len(counts)}"


def surest_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The positions of wrong predictions, the most confident first."""
    finite, probabilities = _finite(probabilities)
    wrong = np.flatnonzero((probabilities.argmax(axis=1) != labels) | ~finite)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


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
