"""One run from its settings to its results: the only place where everything is wired."""

import contextlib
import dataclasses
import json
import pathlib
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
from tf_cutnmix.runs import (
    card,
    checkpoints,
    cost,
    outlook,
    pictures,
    predictions,
    results,
    workdir,
)
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
from tf_cutnmix.runs.display import Display
from tf_cutnmix.runs.loading import batch_size
from tf_cutnmix.runs.progress import Progress
from tf_cutnmix.serving import export

_SHORT_RUN = 500
_USUAL_BATCH = 128
_COMPARED_EXAMPLES = 32


def train_and_evaluate(config: Config) -> dict[str, Any]:
    """Train, select on the validation split, report on the test split, export.

    Everything is written into `config.folder`: `flags.cfg` (repeats the run), `metrics.jsonl`
    (a line per epoch), `tensorboard/`, `mixed_batch.png`, `last.npz` (the state after the last
    epoch), `best.npz` (the model of the best epoch), `predictions.npz` (what its networks say of
    the test split) and `result.json`.

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
        print(before(config, model, splits), flush=True)
        for line in (*splits.train.notes, *hints(config, model, len(splits.train.labels))):
            print(line, flush=True)
        with _tensorboard_errors(folder):
            if earlier is None:
                _write_picture(folder, model, splits, config)
            _fit(model, splits, progress, config)
        result, said = results.collect(model, splits, progress)
        result["flags"] = config.flagfile().splitlines()
        result["versions"] = results.versions()
        predictions.save(folder / "predictions.npz", said)
        result["exports"] = _export(model, splits, result, said, config)
    finally:
        keras.config.set_dtype_policy(policy)
    result["wall_seconds"] = round(time.perf_counter() - begin, 1)
    files.write(folder / "result.json", json.dumps(result, indent=2).encode() + b"\n")
    return result


def before(config: Config, model: OnlineDistiller, splits: Splits) -> str:
    """What is known of a run before it begins: a block of lines."""
    size = splits.train.pixels.shape[1:3]
    pixels = [tf.TensorSpec([1, *splits.train.pixels.shape[1:]], tf.uint8)]
    counts = splits.counts()
    per_epoch = steps_per_epoch(splits.train, config)
    facts = outlook.data(config.dataset, size, splits.train.class_names, counts)
    for name in dict.fromkeys(config.architectures):
        peer = config.architectures.index(name)
        facts[f"{config.architectures.count(name)} x {name}"] = (
            f"{cost.parameters(model)[f'peer{peer + 1}']:,} parameters, "
            f"{cost.flops(model.peers[peer], pixels) / 1e6:,.1f} MFLOPs an image, each"
        )
    facts["steps"] = (
        f"{config.epochs} epochs of {per_epoch} steps of {config.batch_size} images: "
        f"{config.epochs * per_epoch:,}"
    )
    return outlook.block(facts)


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
    steps = (config.epochs - progress.epoch) * progress.steps_per_epoch
    model.fit(
        training_batches(splits, config, first_epoch=progress.epoch),
        initial_epoch=progress.epoch,
        epochs=config.epochs,
        steps_per_epoch=progress.steps_per_epoch,
        shuffle=False,
        verbose=0,
        validation_data=validation,
        callbacks=[
            keras.callbacks.TensorBoard(progress.folder / "tensorboard", write_graph=False),
            progress,
            Display(
                progress,
                terms=model.term_names,
                epochs=config.epochs,
                steps=min(steps, progress.steps_left),
                gpus=len(tf.config.list_physical_devices("GPU")),
            ),
        ],
    )


def _export(
    model: OnlineDistiller,
    splits: Splits,
    result: dict[str, Any],
    said: predictions.Predictions | None,
    config: Config,
) -> dict[str, str]:
    """Write the exports that are asked for, each with its card; where each of them is.

    A run of before predictions were kept has no cards.
    """
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
            max_pixels=config.max_pixels,
            more={"MODEL_CARD.md": card.write(result, said, name).encode()} if said else None,
        )
        written[name] = str(version)
    return written
