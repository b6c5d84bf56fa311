"""The figures of a run: how good its networks are, and what they cost."""

import os
import platform
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.data import Images
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.runs import checkpoints, cost, scores
from tf_cutnmix.runs.build import Splits, for_evaluation
from tf_cutnmix.runs.progress import Progress


def collect(model: OnlineDistiller, splits: Splits, progress: Progress) -> dict[str, Any]:
    """The figures of the last epoch, then those of the best one, whose model is left in place."""
    predict = tf.function(model.predict_each, autograph=False)
    last: dict[str, Any] = {
        "epoch": progress.epoch,
        "step": int(model.step.value),
        **_evaluate(predict, splits),
    }
    best = last
    if progress.best_epoch and (progress.batch or progress.best_epoch != progress.epoch):
        checkpoints.restore(progress.best_model, model.variables)
        step = int(model.step.value)
        best = {"epoch": progress.best_epoch, "step": step, **_evaluate(predict, splits)}
    rates = progress.rates[1:] or progress.rates
    return {
        "last": last,
        "best_on_validation": best,
        "best_peer": _best_peer(model, best.get("validation", {})),
        "leader": model.leader,
        "parameters": cost.parameters(model),
        "trained_parameters": cost.trained_parameters(model),
        "flops_per_image": cost.training_flops(model),
        "peak_memory_bytes": cost.peak_memory(),
        "images_per_second": round(float(np.median(rates)), 1) if rates else None,
    }


def _evaluate(predict: Callable, splits: Splits) -> dict[str, dict[str, float]]:
    return {
        name: _figures(predict, images)
        for name, images in (("validation", splits.validation), ("test", splits.test))
        if len(images.pixels)
    }


def _figures(predict: Callable, images: Images) -> dict[str, float]:
    """The teacher's likelihood as `loss`; accuracy and calibration of each; peers' diversity."""
    batches = [predict(pixels) for pixels, _ in for_evaluation(images)]
    each = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    figures = {name: scores.scores(p, images.labels) for name, p in each.items()}
    peers = np.stack([p for name, p in each.items() if name.startswith("peer")])
    return {
        "loss": figures["teacher"]["negative_log_likelihood"],
        **{f"{name}_accuracy": s["accuracy"] for name, s in figures.items()},
        **{f"{name}_calibration_error": s["calibration_error"] for name, s in figures.items()},
        **scores.diversity(peers),
    }


def _best_peer(model: OnlineDistiller, validation: dict[str, float]) -> str:
    """The single network, averaged or not, that does best on the validation split."""
    return max(model.networks, key=lambda name: validation.get(f"{name}_accuracy", 0.0))


def versions() -> dict[str, str]:
    """What the figures may depend on: versions, and the machine."""
    gpus = [d.name for d in tf.config.list_physical_devices("GPU")]
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {len(gpus)} GPUs",
    }
