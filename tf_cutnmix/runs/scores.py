"""How good predictions are, and how unlike each other."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special, stats

if TYPE_CHECKING:  # a report needs no TensorFlow
    from tf_cutnmix.data.images import Pixels

# Of so many images one in 20 is 5: with fewer a single one decides where 95 % are right.
ENOUGH = 100
_FOLDS = 5
_ONE_WRONG_IN = 20
# More than any confidence.
_NEVER = 2.0
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

    Guo et al. 2017, of logits that are the logarithms of the probabilities. As in Platt 1999, one
    image in `N + 1` counts as labelled at random: where all predictions are right, their
    likelihood alone would have them grow without end.
    """
    finite, _ = _finite(probabilities)
    logarithms = _logarithms(probabilities[finite])
    own = logarithms[np.arange(len(logarithms)), labels[finite]]
    at_random = 1 / (1 + len(logarithms))
    expected = (1 - at_random) * own + at_random * logarithms.mean(axis=1)

    def negative_log_likelihood(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return np.mean(special.logsumexp(scale * logarithms, axis=1) - scale * expected)

    bounds = (-np.log(20), np.log(20))
    found = optimize.minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """`softmax(log(p) / T)` of predictions `[N, K]`; rows that are not finite stay as they are."""
    return special.softmax(_logarithms(probabilities) / temperature, axis=-1)


def threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The lowest of the confidences of predictions from which on 95 % are right; 2 without any."""
    finite, probabilities = _finite(probabilities)
    wrong = (probabilities.argmax(axis=1) != labels) | ~finite
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    enough = _ONE_WRONG_IN * np.cumsum(wrong[order]) <= np.arange(1, len(labels) + 1)
    # Predictions of one confidence are kept together.
    last = np.diff(confidence[order], append=-1.0) < 0
    kept = confidence[order][enough & last]
    return float(kept[-1]) if len(kept) else _NEVER


def confident(probabilities: np.ndarray, labels: np.ndarray, fitted: float) -> dict[str, Any]:
    """From which confidence on predictions are right in 95 %, and what that is worth.

    Args:
      probabilities: `[N, K]`, as they are predicted.
      labels: `[N]`.
      fitted: the temperature of all of them.

    Returns:
      The `threshold` of all at that temperature; the part that is `kept` where temperature and
      threshold are fitted to four fifths of the images and used on the last, each fifth in turn;
      the part of these predictions that is `right`, None where none is kept.
    """
    fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    kept = np.zeros(len(labels), bool)
    for number in range(_FOLDS):
        rest, own = fold != number, fold == number
        softer = temperature(probabilities[rest], labels[rest])
        least = threshold(soften(probabilities[rest], softer), labels[rest])
        kept[own] = soften(probabilities[own], softer).max(axis=1) >= least
    right = probabilities.argmax(axis=1) == labels
    return {
        "threshold": threshold(soften(probabilities, fitted), labels),
        "kept": float(np.mean(kept)),
        "right": float(np.mean(right[kept])) if kept.any() else None,
    }


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, 1e-30))


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
