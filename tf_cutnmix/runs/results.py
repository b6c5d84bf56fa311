"""The figures of a run: how good its networks are, and what they cost."""

import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.data import Images
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.networks.heatmap import heatmaps, looked_at
from tf_cutnmix.runs import checkpoints, cost, predictions, scores
from tf_cutnmix.runs.loading import Splits, for_evaluation, validation_split
from tf_cutnmix.runs.plan import Plan
from tf_cutnmix.runs.predictions import Predictions
from tf_cutnmix.runs.progress import Progress

# Switches other kernels on or off, whose last bits are others.
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# Training images that the networks are tried on as they are on test images, unmixed.
_TRAINED_ON = 1000


def collect(
    model: OnlineDistiller, plan: Plan, progress: Progress
) -> tuple[dict[str, Any], Predictions]:
    """The figures of the last epoch and of the best one, whose model is left in place.

    Returns:
      What `result.json` holds of the data, the networks and how good they are; what the networks
      of the best epoch predict for the test images.
    """
    splits = plan.splits
    predict = tf.function(model.predict_each, autograph=False)
    moment = {"epoch": progress.epoch, "step": int(model.step.value)}
    figures, predicted = _evaluate(predict, splits)
    last = best = {**moment, **figures}
    if progress.best_epoch and (progress.batch or progress.best_epoch != progress.epoch):
        checkpoints.restore(progress.best_model, model.variables)
        moment = {"epoch": progress.best_epoch, "step": int(model.step.value)}
        figures, predicted = _evaluate(predict, splits)
        best = {**moment, **figures}
    count = min(len(splits.test.labels), len(splits.train.labels), _TRAINED_ON)
    positions = np.linspace(0, len(splits.train.labels) - 1, count).astype(int)
    trained_on = splits.train.select(positions)
    best["train"] = _figures(_predictions(predict, trained_on), trained_on)
    validation = best.get("validation", {})
    # The first epoch waits for what is compiled once.
    rates = [row["images_per_second"] for row in progress.history[1:]] or progress.rates
    return {
        "class_names": list(splits.train.class_names),
        "counts": splits.counts(),
        **({"unlabelled_images": len(splits.unlabelled.labels)} if splits.unlabelled else {}),
        "validation_split": validation_split(plan.config),
        "image_size": list(splits.train.pixels.shape[1:3]),
        "last": last,
        "best_on_validation": best,
        # The single network, averaged or not, that does best on the validation split.
        "best_peer": max(model.networks, key=lambda n: validation.get(f"{n}_accuracy", 0.0)),
        "leader": model.leader,
        "parameters": cost.parameters(model),
        "trained_parameters": cost.trained_parameters(model),
        "flops_per_image": cost.training_flops(model),
        "peak_memory_bytes": cost.peak_memory(),
        "images_per_second": round(float(np.median(rates)), 1) if rates else None,
    }, predictions.collect(predicted, splits.test, _where_they_look(model.averages))


def _where_they_look(networks: Sequence[keras.Model]) -> Callable[[np.ndarray], np.ndarray] | None:
    """Heat maps of images uint8; None of networks that name no stages."""
    if not all(map(looked_at, networks)):
        return None
    return lambda images: heatmaps(networks, tf.cast(images, tf.float32)).numpy()


def _evaluate(predict: Callable, splits: Splits) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of the validation and the test split, and the predictions for the test images.

    With a validation split the test split's have `scaled`, what they are with each network's
    probabilities at the temperature that fits it; if the split is large enough, its own have
    `confident`, as of `scores.confident`.
    """
    figures: dict[str, Any] = {}
    temperatures: dict[str, float] = {}
    if len(labels := splits.validation.labels):
        held_out = _predictions(predict, splits.validation)
        figures["validation"] = _figures(held_out, splits.validation)
        temperatures = {n: scores.temperature(p, labels) for n, p in held_out.items()}
        if len(labels) >= scores.ENOUGH:
            figures["validation"]["confident"] = {
                n: scores.confident(p, labels, temperatures[n]) for n, p in held_out.items()
            }
    predicted = _predictions(predict, splits.test)
    figures["test"] = _figures(predicted, splits.test)
    if temperatures:
        figures["test"]["scaled"] = _scaled(predicted, splits.test.labels, temperatures)
    return figures, predicted


def _predictions(predict: Callable, images: Images) -> dict[str, np.ndarray]:
    """Probabilities `[N, K]` by the name of the network."""
    batches = [predict(pixels) for pixels, _ in for_evaluation(images)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _scaled(
    predicted: dict[str, np.ndarray], labels: np.ndarray, temperatures: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Of each network its temperature, and the likelihood and calibration that it has there."""
    scaled = {}
    for name, temperature in temperatures.items():
        figures = scores.scores(scores.soften(predicted[name], temperature), labels)
        kinds = ("negative_log_likelihood", "calibration_error")
        scaled[name] = {"temperature": temperature, **{kind: figures[kind] for kind in kinds}}
    return scaled


def _figures(predicted: dict[str, np.ndarray], images: Images) -> dict[str, Any]:
    """The teacher's likelihood as `loss`; accuracies and calibration of each; peers' diversity.

    `teacher_recall` is a list with a figure for each class, None for one without images.
    """
    figures = {name: scores.scores(p, images.labels) for name, p in predicted.items()}
    peers = np.stack([p for name, p in predicted.items() if name.startswith("peer")])
    kinds = ("accuracy", "balanced_accuracy", "calibration_error")
    recall = scores.recall(predicted["teacher"], images.labels)
    return {
        "loss": figures["teacher"]["negative_log_likelihood"],
        **{f"{name}_{kind}": s[kind] for kind in kinds for name, s in figures.items()},
        "teacher_recall": [None if np.isnan(part) else part for part in recall.tolist()],
        **scores.diversity(peers),
    }


def versions() -> dict[str, str]:
    """What the figures may depend on: versions, and the machine."""
    gpus = [d.name for d in tf.config.list_physical_devices("GPU")]
    machine = [platform.machine(), f"{os.cpu_count()} cores", f"{len(gpus)} GPUs"]
    if _ONEDNN in os.environ:
        machine.append(f"{_ONEDNN}={os.environ[_ONEDNN]}")
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "machine": ", ".join(machine),
    }
