"""One run from its settings to its results: the only place where everything is wired."""

import contextlib
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix import (
    architectures,
    augment,
    checkpoints,
    cost,
    data,
    files,
    mixing,
    pictures,
    scores,
    sharing,
    teacher,
    workdir,
)
from tf_cutnmix.config import Config
from tf_cutnmix.distiller import OnlineDistiller
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.export import export
from tf_cutnmix.methods import Method
from tf_cutnmix.progress import Progress

_SHORT_RUN = 500
_EVALUATION_BATCH = 500
_COMPARED_EXAMPLES = 32
_PICTURED = 8
_CHUNK = 1000


class Splits(NamedTuple):
    """The images of a run; `validation` may hold none."""

    train: data.Images
    validation: data.Images
    test: data.Images


def train_and_evaluate(config: Config) -> dict[str, Any]:
    """Train, select on the validation split, report on the test split, export.

    Everything is written into `config.folder`: `flags.cfg` (repeats the run), `metrics.jsonl`
    (a line per epoch), `tensorboard/`, `mixed_batch.png`, `last.npz` (the state after the last
    epoch), `best.npz` (the model of the best epoch) and `result.json`.

    Returns:
      What `result.json` holds.

    Raises:
      InputError: a setting cannot be used; nothing was written.
      DivergenceError: the loss stopped being finite; `last.npz` is the epoch before.
      RunError: something could not be written, or an export does not answer as it should.
    """
    begin = time.perf_counter()
    folder = pathlib.Path(config.folder)
    _set_threads(config.threads)
    check_names(config)
    _check_together(config)
    earlier = workdir.earlier_run(folder, config)
    splits = _load(config, earlier)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        keras.utils.set_random_seed(config.seed)
        model = build_model(config, splits.train)
        progress = Progress(
            model,
            folder,
            batch_size=config.batch_size,
            steps_per_epoch=_steps_per_epoch(splits.train, config),
            steps=config.steps,
            class_names=splits.train.class_names,
        )
        if earlier:
            progress.restore(earlier)
        workdir.open_folder(folder, config, fresh=earlier is None)
        for hint in hints(config, model, progress.steps_per_epoch * config.epochs):
            print(hint, flush=True)
        with _tensorboard_errors(folder):
            if earlier is None:
                _write_picture(folder, model, splits, config)
            _fit(model, splits, progress, config)
        result = _result(model, splits, progress, config)
        result["exports"] = _export(model, splits, result, config)
    finally:
        keras.config.set_dtype_policy(policy)
    result["wall_seconds"] = round(time.perf_counter() - begin, 1)
    result["versions"] = _versions()
    files.write(folder / "result.json", json.dumps(result, indent=2).encode() + b"\n")
    return result


def build_model(config: Config, train: data.Images) -> OnlineDistiller:
    """The compiled model of a run, with fresh weights."""
    shape, num_classes = train.pixels.shape[1:], len(train.class_names)
    mean, deviation = _statistics(train.pixels)
    peers = [
        architectures.build_network(name, shape, num_classes, mean=mean, deviation=deviation)
        for name in config.architectures
    ]
    steps = _steps_per_epoch(train, config) * config.epochs
    method = Method(
        config.method,
        weights=config.term_weights,
        temperature=config.temperature,
        ramp_steps=round(config.ramp * steps),
        batch_size=config.batch_size,
        teacher=config.teacher,
    )
    model = OnlineDistiller(
        _shared(peers, method, config),
        _mixing(config, num_classes),
        method,
        augment=_augmentation(config),
        own_views={"auto": None, "own": True, "shared": False}[config.views],
        momentum=teacher.momentum_for(steps, config.teacher_memory),
        weight_decay=config.weight_decay,
    )
    if config.jit == "on" and not model.augment.supports_jit:
        raise InputError(f"XLA cannot compile --augment={config.augment}: pass --jit=auto")
    if config.jit == "on" and not all(part.supports_jit for part in model.parts):
        raise InputError(f"XLA cannot compile --method={config.method}: pass --jit=auto")
    model.compile(
        keras.optimizers.SGD(_schedule(config, steps), config.momentum, nesterov=True),
        jit_compile={"auto": "auto", "on": True, "off": False}[config.jit],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _shared(peers: list[keras.Model], method: Method, config: Config) -> list[keras.Model]:
    """The peers, sharing what the settings say; by default all but the last stage, if any."""
    stage = config.share
    if stage == "auto":
        stage = architectures.stages(peers[0])[-2] if method.recipe.shares else "none"
    if stage == "none" or len(peers) == 1:
        return peers
    return sharing.share_stages(peers, stage, mean_gradient=method.recipe.mean_gradient)


def _augmentation(config: Config) -> augment.CropAndFlip:
    flip = config.flip == "on" or (config.flip == "auto" and not data.has_direction(config.dataset))
    return augment.build(config.augment, crop=config.crop, flip=flip, seed=config.seed)


def _mixing(config: Config, num_classes: int) -> mixing.Mixing | None:
    return mixing.build(
        config.mix,
        num_peers=len(config.architectures),
        regions=config.regions,
        alpha=config.alpha,
        ratio_per=config.ratio_per,
        num_classes=num_classes,
        seed=config.seed,
    )


def hints(config: Config, model: OnlineDistiller, steps: int) -> list[str]:
    """What the user of a run of so many steps may want to know before it begins."""
    lines = []
    if steps < _SHORT_RUN:
        memory = f"the teacher remembers {1 / (1 - model.momentum):.0f} (--teacher_memory)"
        ramp = f", distillation grows over {model.method.ramp_steps} (--ramp)"
        ramped = any(term.ramped for term in model.terms)
        lines.append(f"short run: {steps} steps; {memory}{ramp if ramped else ''}")
    if config.precision == "float32" and cost.multiplies_in_bfloat16():
        lines.append(
            "this processor multiplies in bfloat16: --precision=mixed_bfloat16 may be faster"
        )
    return lines


def _set_threads(threads: int) -> None:
    """Set the threads of TensorFlow's arithmetic, unless they are to be as they are.

    Raises:
      InputError: TensorFlow runs already in this process, with another number.
    """
    now = tf.config.threading.get_intra_op_parallelism_threads()
    if threads in (0, now):
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise InputError(
            f"--threads={threads}: TensorFlow has begun in this process with {now or 'all'} "
            "threads: set it in a fresh process, before TensorFlow's first operation"
        ) from error


def check_names(config: Config) -> None:
    """Raise `InputError` for a name that nothing knows, before data are read or downloaded."""
    for name in config.architectures:
        architectures.backbone(name)
    Method(config.method)
    _mixing(config, num_classes=2)
    _augmentation(config)


def _check_together(config: Config) -> None:
    """Raise `InputError` for settings that cannot be had together, as early."""
    method = Method(config.method)
    method.check_count(len(config.architectures))
    if method.recipe.held_out and not config.validation_fraction:
        raise InputError(
            f"--method={config.method} learns from held-out images: pass --validation_fraction "
            "above 0"
        )


def _load(config: Config, earlier: checkpoints.Checkpoint | None) -> Splits:
    settings = {"data_dir": config.data_dir, "image_size": config.image_size}
    train = data.load(config.dataset, config.train_split, **settings)
    test = data.load(config.dataset, config.test_split, **settings)
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise InputError("training and test images differ in size: pass --image_size")
    if earlier and tuple(earlier.facts["class_names"]) != train.class_names:
        raise InputError(
            f"{config.folder} was begun on {len(earlier.facts['class_names'])} classes and "
            f"{config.dataset} now holds {len(train.class_names)}, or others: train a new run"
        )
    train, validation = data.hold_out(train, config.validation_fraction)
    if config.batch_size > len(train.pixels):
        raise InputError(
            f"--batch_size={config.batch_size} is larger than the {len(train.pixels)} training "
            "images: lower it"
        )
    return Splits(train, validation, test)


def _statistics(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, at least 1, from exact sums over chunks."""
    total, squares = np.zeros(3), np.zeros(3)
    for start in range(0, len(pixels), _CHUNK):
        chunk = pixels[start : start + _CHUNK].astype(np.float64)
        total += chunk.sum(axis=(0, 1, 2))
        squares += np.square(chunk).sum(axis=(0, 1, 2))
    count = pixels[..., 0].size
    mean = total / count
    return mean, np.maximum(np.sqrt(squares / count - np.square(mean)), 1.0)


def _steps_per_epoch(train: data.Images, config: Config) -> int:
    return len(train.pixels) // config.batch_size


def _schedule(config: Config, steps: int) -> Any:
    rate = config.learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    if config.schedule == "step":
        # Keras still uses the earlier rate at a boundary itself.
        boundaries = [steps // 2 - 1, steps * 3 // 4 - 1]
        rates = [rate, rate / 10, rate / 100]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    return rate


@contextlib.contextmanager
def _tensorboard_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turn what TensorFlow raises when it cannot write event files into a `RunError`."""
    try:
        yield
    except tf.errors.OpError as error:
        if f"{folder}/tensorboard" not in error.message:
            raise
        reason = error.message.splitlines()[0].split("}} ")[-1]
        raise RunError(f"cannot write {reason}") from error


def _write_picture(
    folder: pathlib.Path, model: OnlineDistiller, splits: Splits, config: Config
) -> None:
    """The start of the first batch: a row of images, of their partners, of each peer's views."""
    images, labels = next(iter(_training_batches(splits, config, first_epoch=0)))
    step = tf.constant(0, tf.int64)
    views, _, _ = model.make_views(images, labels, step)
    images = model.augment(images, training=True, step=step)
    rows = [images, *views]
    if model.mixing is not None:
        draw = model.mixing.draw(step, tuple(images.shape[:3]))
        rows.insert(1, tf.gather(images, draw.partner))
    picture = pictures.contact_sheet(np.stack([row[:_PICTURED] for row in rows]))
    files.write(folder / "mixed_batch.png", tf.io.encode_png(picture).numpy())
    with tf.summary.create_file_writer(str(folder / "tensorboard" / "train")).as_default():
        tf.summary.image("mixed_batch", picture[np.newaxis], step=0)


def _fit(model: OnlineDistiller, splits: Splits, progress: Progress, config: Config) -> None:
    model.fit(
        _training_batches(splits, config, first_epoch=progress.epoch),
        initial_epoch=progress.epoch,
        epochs=config.epochs,
        steps_per_epoch=progress.steps_per_epoch,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        validation_data=_for_evaluation(splits.validation),
        callbacks=[
            keras.callbacks.TensorBoard(progress.folder / "tensorboard", write_graph=False),
            progress,
        ],
    )


def _training_batches(splits: Splits, config: Config, first_epoch: int) -> tf.data.Dataset:
    return data.shuffled_batches(
        splits.train, config.batch_size, seed=config.seed, first_epoch=first_epoch
    )


def _for_evaluation(images: data.Images) -> tf.data.Dataset | None:
    return data.ordered_batches(images, _EVALUATION_BATCH) if len(images.pixels) else None


def _result(
    model: OnlineDistiller, splits: Splits, progress: Progress, config: Config
) -> dict[str, Any]:
    """The figures of the last epoch, then those of the best one, whose model is left in place."""
    last = {"epoch": progress.epoch, "step": int(model.step.value), **_evaluate(model, splits)}
    best = last
    if progress.best_epoch and (progress.cut_short or progress.best_epoch != progress.epoch):
        checkpoints.restore(checkpoints.read(progress.folder / "best.npz"), model.variables)
        step = int(model.step.value)
        best = {"epoch": progress.best_epoch, "step": step, **_evaluate(model, splits)}
    rates = progress.rates[1:] or progress.rates
    return {
        "last": last,
        "best_on_validation": best,
        "best_peer": _best_peer(model, best.get("validation", {})),
        "leader": model.leader,
        "parameters": {
            f"peer{k + 1}": int(sum(np.prod(v.shape) for v in peer.trainable_variables))
            for k, peer in enumerate(model.peers)
        },
        "trained_parameters": cost.trained_parameters(model),
        "flops_per_image": cost.training_flops(model),
        "peak_memory_bytes": cost.peak_memory(),
        "images_per_second": round(float(np.median(rates)), 1) if rates else None,
    }


def _evaluate(model: OnlineDistiller, splits: Splits) -> dict[str, dict[str, float]]:
    predict = tf.function(model.predict_each)
    return {
        name: _figures(predict, images)
        for name, images in (("validation", splits.validation), ("test", splits.test))
        if len(images.pixels)
    }


def _figures(predict: Callable, images: data.Images) -> dict[str, float]:
    """The teacher's likelihood as `loss`; accuracy and calibration of each; peers' diversity."""
    batches = [predict(pixels) for pixels, _ in _for_evaluation(images)]
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


def _export(
    model: OnlineDistiller, splits: Splits, result: dict[str, Any], config: Config
) -> dict[str, str]:
    """Write the exports that are asked for; where each of them is."""
    best_peer = model.networks[result["best_peer"]]
    networks = {"teacher": model.averages, "peer": [best_peer], "ensemble": model.peers}
    written = {}
    for name in config.exports:
        suffix = "" if name == "teacher" else f"_{name}"
        version = export(
            networks[name],
            pathlib.Path(config.export_dir) / f"{config.name}{suffix}",
            splits.train.class_names,
            splits.test.pixels[:_COMPARED_EXAMPLES],
        )
        written[name] = str(version)
    return written


def _versions() -> dict[str, str]:
    gpus = [d.name for d in tf.config.list_physical_devices("GPU")]
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {len(gpus)} GPUs",
    }
