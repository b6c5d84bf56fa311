"""One run from its settings to its results: the only place where everything is wired."""

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix import files
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.networks import applications
from tf_cutnmix.runs import checkpoints, cost, pictures, results, workdir
from tf_cutnmix.runs.begun import as_begun
from tf_cutnmix.runs.build import (
    Splits,
    build_model,
    check_names,
    check_together,
    for_evaluation,
    load_splits,
    steps_per_epoch,
    training_batches,
)
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import batch_size
from tf_cutnmix.runs.progress import Progress
from tf_cutnmix.serving import check_installed, export, record

_SHORT_RUN = 500
_USUAL_BATCH = 128
# Images to compare an export on, and to measure the accuracy of its formats on.
_COMPARED = 32
_MEASURED = 1000
_CALIBRATION = 200


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
    config = as_begun(config)
    folder = pathlib.Path(config.folder)
    _set_threads(config.threads)
    check_names(config)
    check_together(config)
    check_installed(config.formats)
    earlier = workdir.earlier_run(folder, config)
    splits = load_splits(config)
    config = dataclasses.replace(config, batch_size=batch_size(config, splits.train))
    _check_classes(earlier, splits, config)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        keras.utils.set_random_seed(config.seed)
        model = build_model(config, splits.train)
        progress = Progress(
            model,
            folder,
            batch_size=batch_size(config, splits.train),
            steps_per_epoch=steps_per_epoch(splits.train, config),
            steps=config.steps,
            class_names=splits.train.class_names,
        )
        if earlier:
            progress.restore(earlier)
        workdir.open_folder(folder, config, fresh=earlier is None)
        for line in (*splits.train.notes, *hints(config, model, len(splits.train.labels))):
            print(line, flush=True)
        with _tensorboard_errors(folder):
            if earlier is None:
                _write_picture(folder, model, splits, config)
            _fit(model, splits, progress, config)
        result = results.collect(model, splits, progress)
        result["exports"] = _export(model, splits, result, config)
    finally:
        keras.config.set_dtype_policy(policy)
    result["wall_seconds"] = round(time.perf_counter() - begin, 1)
    result["versions"] = results.versions()
    files.write(folder / "result.json", json.dumps(result, indent=2).encode() + b"\n")
    return result


def hints(config: Config, model: OnlineDistiller, images: int) -> list[str]:
    """What the user of a run on so many images may want to know before it begins."""
    lines = []
    size = config.batch_size or _USUAL_BATCH
    steps = images // size * config.epochs
    if steps < _SHORT_RUN:
        memory = f"the teacher remembers {1 / (1 - model.momentum):.0f} (--teacher_memory)"
        ramp = f", distillation grows over {model.method.ramp_steps} (--ramp)"
        ramped = any(term.ramped for term in model.terms)
        smaller = next((b for b in (64, 32, 16) if images // b * config.epochs >= _SHORT_RUN), 8)
        more = f"; --batch_size={smaller} would give {images // smaller * config.epochs}"
        told = f"{memory}{ramp if ramped else ''}{more if smaller < size else ''}"
        lines.append(f"short run: {steps} steps; {told}")
    for name in sorted(set(config.architectures)):
        if f"keras_{name}" in applications.NAMES:
            lines.append(
                f"{name} is the network for small images: keras_{name} is that of ImageNet"
            )
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


def _check_classes(earlier: checkpoints.Checkpoint | None, splits: Splits, config: Config) -> None:
    """Raise `InputError` if the run was begun on other classes."""
    if earlier and tuple(earlier.facts["class_names"]) != splits.train.class_names:
        raise InputError(
            f"{config.folder} was begun on {len(earlier.facts['class_names'])} classes and "
            f"{config.dataset} now holds {len(splits.train.class_names)}, or others: train a new "
            "run"
        )


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
    images, labels = next(iter(training_batches(splits, config, first_epoch=0)))
    picture = pictures.mixed_batch(model, images, labels)
    files.write(folder / "mixed_batch.png", tf.io.encode_png(picture).numpy())
    with tf.summary.create_file_writer(str(folder / "tensorboard" / "train")).as_default():
        tf.summary.image("mixed_batch", picture[np.newaxis], step=0)


def _fit(model: OnlineDistiller, splits: Splits, progress: Progress, config: Config) -> None:
    validation = for_evaluation(splits.validation) if len(splits.validation.pixels) else None
    model.fit(
        training_batches(splits, config, first_epoch=progress.epoch),
        initial_epoch=progress.epoch,
        epochs=config.epochs,
        steps_per_epoch=progress.steps_per_epoch,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        validation_data=validation,
        callbacks=[
            keras.callbacks.TensorBoard(progress.folder / "tensorboard", write_graph=False),
            progress,
        ],
    )


def export_run(config: Config) -> dict[str, str]:
    """Export the networks of a finished run once more, as the run's end would.

    Args:
      config: of the run, with what is to be exported, in which formats and where.

    Returns:
      Where each export is, by the name that `--export` has for it.

    Raises:
      InputError: the run has not finished, its data are no longer the same, or it was cut short
        by `--steps` and left no checkpoint of its end.
      RunError: a checkpoint cannot be read, or an export cannot be written.
    """
    check_installed(config.formats)
    folder = pathlib.Path(config.folder)
    result = _result(folder)
    splits = load_splits(config)
    config = dataclasses.replace(config, batch_size=batch_size(config, splits.train))
    model = build_model(config, splits.train)
    last, best = folder / "last.npz", folder / "best.npz"
    if best.exists():
        checkpoints.restore(checkpoints.read(best), model.variables)
    elif last.exists():
        checkpoint = checkpoints.read(last)
        _check_classes(checkpoint, splits, config)
        checkpoints.restore(checkpoint, [*model.variables, *model.optimizer.variables])
    if int(model.step.value) != result["best_on_validation"]["step"]:
        raise InputError(f"{folder} kept no checkpoint of its end: train it without --steps")
    return _export(model, splits, result, config)


def _result(folder: pathlib.Path) -> dict[str, Any]:
    """What a finished run found.

    Raises:
      InputError: it has not finished.
    """
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no finished run: it has no result.json") from error


def _export(
    model: OnlineDistiller, splits: Splits, result: dict[str, Any], config: Config
) -> dict[str, str]:
    """Write the exports that are asked for; where each of them is."""
    best_peer = model.networks[result["best_peer"]]
    networks = {"teacher": model.averages, "peer": [best_peer], "ensemble": model.peers}
    train = splits.train.pixels
    count = _MEASURED if config.formats else _COMPARED
    written = {}
    for name in config.exports:
        suffix = "" if name == "teacher" else f"_{name}"
        version = export(
            networks[name],
            pathlib.Path(config.export_dir) / f"{config.name}{suffix}",
            splits.train.class_names,
            splits.test.pixels[:count],
            labels=splits.test.labels[:count] if config.formats else None,
            calibration=train[:: max(len(train) // _CALIBRATION, 1)][:_CALIBRATION],
            max_pixels=config.max_pixels,
            formats=config.formats,
        )
        for line in record.lines(version):
            print(line, flush=True)
        written[name] = str(version)
    return written
