"""How good an export's predictions are."""

import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import InputError


def load(folder: str) -> tuple[Callable, tuple[str, ...]]:
    """The serving signature of an export, and its class names.

    Raises:
      InputError: the folder is no export of this package.
    """
    path = pathlib.Path(folder)
    names = path / "assets" / "class_names.txt"
    if not path.is_dir():
        raise InputError(f"--savedmodel={folder}: there is no such folder")
    if not (path / "saved_model.pb").is_file():
        versions = [found.parent.name for found in path.glob("*/saved_model.pb")]
        hint = f": name a version in it: {', '.join(sorted(versions, key=lambda v: (len(v), v)))}"
        raise InputError(f"--savedmodel={folder} holds no saved_model.pb{hint if versions else ''}")
    try:
        signature = tf.saved_model.load(folder).signatures["serving_default"]
        class_names = tuple(names.read_text().splitlines())
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--savedmodel={folder} is no export of tf_cutnmix: {reason}") from error
    return signature, class_names


def predictions(signature: Callable, pixels: np.ndarray, batch_size: int) -> np.ndarray:
    """Probabilities `[N, K]` for images `[N, H, W, 3]` uint8."""
    starts = range(0, len(pixels), batch_size)
    batches = (tf.constant(pixels[start : start + batch_size]) for start in starts)
    return np.concatenate([signature(images=b)["probabilities"].numpy() for b in batches])


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, top-5 accuracy, negative log likelihood and expected calibration error.

    Args:
      probabilities: `[N, K]`, rows sum to 1.
      labels: `[N]`, class numbers.

    Returns:
      The four figures and the number of images. The calibration error is that of Guo et al.
      (2017), equation 3, with 15 bins of equal width; the likelihood is in nats per image.
    """
    own = probabilities[np.arange(len(labels)), labels]
    rank = np.sum(probabilities > own[:, None], axis=1)
    return {
        "images": len(labels),
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == labels)),
        "top5_accuracy": float(np.mean(rank < 5)),
        "negative_log_likelihood": float(-np.mean(np.log(np.maximum(own, 1e-30)))),
        "calibration_error": calibration_error(probabilities, labels),
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """`sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|` over bins `((b-1)/M, b/M]`."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    index = np.ceil(confidence * bins).astype(int)
    gaps = [np.sum(right[index == b]) - np.sum(confidence[index == b]) for b in range(bins + 1)]
    return float(np.sum(np.abs(gaps)) / len(labels))
