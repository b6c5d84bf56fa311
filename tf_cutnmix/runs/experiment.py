"""One run from its settings to its results: the only place where everything is wired."""

import contextlib
import pathlib
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import pandas as pd
import tensorflow as tf

from tf_cutnmix import escaping, exports, files, output
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import DivergenceError, InputError, Interrupted, RunError
from tf_cutnmix.interrupts import Interrupts
from tf_cutnmix.runs import checkpoints, exporting, predictions, results, workdir
from tf_cutnmix.runs.build import build_model, check_names, check_together
from tf_cutnmix.runs.checkpoints import Checkpoint
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.display import Display, hints, overview
from tf_cutnmix.runs.events import Events, mixed_batch
from tf_cutnmix.runs.loading import changes, for_evaluation, load_splits
from tf_cutnmix.runs.plan import Plan, resolve
from tf_cutnmix.runs.progress import Progress
from tf_cutnmix.runs.workers import Workers
from tf_cutnmix.serving import check_installed

# The first image of the test split.
EXAMPLE = "test_image.png"


def train_and_evaluate(
    config: Config,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    show: Callable[[Config, dict[str, Any]], object] = lambda *_: None,
) -> dict[str, Any]:
    """Train, select on the validation split, report on the test split, export.

    Everything is written into `config.folder`: `flags.cfg` (repeats the run), `metrics.jsonl`
    (a line per epoch), `tensorboard/`, `mixed_batch.png`, `checkpoints/` (the state of the run
    and the model of its best epoch, twice: now and before), `predictions.npz` (what its networks
    say of the test split), `mistakes.csv` (the teacher's, of it), `contradictions.csv` (equal
    images of several classes, if there are any), `test_image.png` (the first of the test split)
    and `result.json`. All of it is there before the first export is tried.

    A run of several processes is written by one of them, see `Workers`.

    Args:
      config: of the run.
      callbacks: of Keras, such as those of experiment trackers; `fit` gets them. One that goes on
        within an epoch is fitted twice: to its end, then the others.
      show: is called before the exports, with the settings of the run, where those that were left
        to it have values, and with what `result.json` then holds.

    Returns:
      What `result.json` holds, with `exports` as places from here; nothing in a process that
      does not write.

    Raises:
      InputError: a setting cannot be used, or another process writes into the folder; nothing
        was written.
      DivergenceError: the loss stopped being finite; the checkpoints are of before.
      RunError: something could not be written, or an export does not answer as it should.
      Interrupted: SIGTERM, SIGINT or SIGHUP came, and something is saved.
    """
    if not isinstance(config, Config):
        raise InputError(f"a run is given by its Config. Received: {config!r}")
    _set_threads(config.threads)  # before TensorFlow's first operation
    workers = Workers(config.distribute)
    check_names(config)
    check_together(config)
    check_installed(config.formats)
    workdir.check_writable(config)
    with (
        _saying_how_to_go_on(pathlib.Path(config.folder)),
        workers.place(config) as config,
        files.locked(pathlib.Path(config.folder)),
    ):
        return _train_and_evaluate(config, workers, callbacks, show)


def _train_and_evaluate(
    config: Config,
    workers: Workers,
    callbacks: Sequence[keras.callbacks.Callback],
    show: Callable[[Config, dict[str, Any]], object],
) -> dict[str, Any]:
    begin = time.perf_counter()
    folder = pathlib.Path(config.folder)
    earlier, config = workers.agreed(config, lambda: workdir.earlier_run(config))
    with output.waiting(f"reading the images of {escaping.one_line(config.dataset)}"):
        splits = load_splits(config, earlier)
    plan = resolve(config, splits, earlier)
    workers.check_equal("images", plan.splits.checksums)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        keras.utils.set_random_seed(config.seed)
        with output.waiting("building the networks"):
            model = build_model(plan, workers.strategy)
        progress = _train(model, plan, earlier, workers, callbacks, begin)
        if not workers.chief:
            return workers.from_chief(dict)  # which comes when the chief is done
        with output.waiting("testing the networks"):
            result, predicted = results.collect(model, plan, progress)
        result["flags"] = plan.config.flagfile().splitlines()
        result["versions"] = results.versions()
        ended = progress.epoch >= plan.config.epochs or progress.gave_up
        finished = ended and earlier is not None and earlier.facts["epoch"] == progress.epoch
        result["exports"] = exporting.made_before(plan.config) if finished else {}
        result["gave_up"] = progress.gave_up
        result["wall_seconds"] = round(progress.seconds, 1)
        predictions.save(folder / "predictions.npz", predicted)
        mistakes = predictions.mistakes(predicted, splits.train.class_names)
        result["mistakes"] = len(mistakes)
        _write_table(folder / "mistakes.csv", mistakes)
        example = tf.io.encode_png(plan.splits.test.pixels[0])
        files.write(folder / EXAMPLE, example.numpy())
        _write(folder, result)
        show(plan.config, result)
        try:
            with output.waiting("exporting: what is written is tried in a process of its own"):
                result["exports"] |= exporting.export_networks(
                    model, plan, result, predicted, but=result["exports"]
                )
        except RunError as error:
            raise RunError(
                f"{error}; all else of the run is in {folder}, and python -m tf_cutnmix.export "
                f"{shlex.quote(f'--run={folder}')} exports it without training"
            ) from error
        _write(folder, result)
    finally:
        keras.config.set_dtype_policy(policy)
    workers.from_chief(dict)
    return result


def _write_table(path: pathlib.Path, table: pd.DataFrame) -> None:
    files.write(path, escaping.csv(table).encode(errors="backslashreplace"))


def _write(folder: pathlib.Path, result: dict[str, Any]) -> None:
    record = exports.record(folder, result["exports"])
    result["fingerprints"] = record["fingerprints"]
    exporting.write_result(folder, result | record)


def _train(
    model: OnlineDistiller,
    plan: Plan,
    earlier: Checkpoint | None,
    workers: Workers,
    callbacks: Sequence[keras.callbacks.Callback],
    began_at: float,
) -> Progress:
    """Begin or go on with the run and train to its end; how far that was."""
    config = plan.config
    folder = pathlib.Path(config.folder)
    events, interrupts = Events(folder / "tensorboard"), Interrupts()
    progress = Progress(model, plan, events, interrupts, began_at)
    if earlier:
        progress.restore(earlier)
        changed = changes(earlier, plan.splits)
        # Fewer steps than are done tell of other images in runs of before, too.
        if changed or progress.batch >= plan.steps_per_epoch:
            print(f"other images than before: {changed or 'fewer'}", flush=True)
            if progress.epoch < config.epochs:
                progress.begin_epoch_anew()
    workdir.open_folder(folder, config, earlier)
    if len(contradictions := plan.splits.contradictions()):
        _write_table(folder / "contradictions.csv", contradictions)
    with output.waiting("counting what a step computes"):
        told = overview(plan, model)
    print(told, flush=True)
    for line in (*plan.splits.train.notes, *hints(plan, model)):
        print(line, flush=True)
    with (
        events,
        interrupts,
        workers.together(progress.save),
        contextlib.ExitStack() as first_step,
    ):
        first_step.enter_context(
            output.waiting("preparing the first step: of deep networks that takes minutes")
        )
        prepared = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda *_, **__: first_step.close()
        )
        _show_first_batch(events, folder, model, plan)
        progress.write_history()
        _fit(model, plan, progress, [prepared, *callbacks])
        progress.end_if_asked()
    return progress


@contextlib.contextmanager
def _saying_how_to_go_on(folder: pathlib.Path) -> Iterator[None]:
    """A run that is asked to end, wherever it is, or that nobody reads any longer, names what it
    has saved; one that diverged, the flag to begin anew.

    Raises:
      DivergenceError: the loss stopped being finite.
      Interrupted: a signal came, or the pipe is closed that it prints into.
    """
    try:
        yield
    except DivergenceError as error:
        raise DivergenceError(f"{error}; --overwrite begins anew in {folder}") from error
    except (KeyboardInterrupt, BrokenPipeError) as interrupt:
        number = signal.SIGPIPE if isinstance(interrupt, BrokenPipeError) else signal.SIGINT
        known = interrupt if isinstance(interrupt, Interrupted) else Interrupted(number)
        if known.advice or not checkpoints.paths(folder):
            raise
        raise Interrupted(
            known.number,
            f"interrupted; {folder} has what was saved: the same command with --resume goes on "
            "from there",
        ) from interrupt


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


def _show_first_batch(
    events: Events, folder: pathlib.Path, model: OnlineDistiller, plan: Plan
) -> None:
    """Write the picture of the first batch, which a run that goes on has already."""
    path = folder / "mixed_batch.png"
    if not path.exists():
        images, labels = next(iter(plan.batches(first_epoch=0)))
        picture = mixed_batch(model, images, labels)
        files.write(path, tf.io.encode_png(picture).numpy())
    events.show_picture("mixed_batch", tf.io.decode_png(path.read_bytes()))


def _fit(
    model: OnlineDistiller,
    plan: Plan,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train the rest of an epoch that has begun, then the others."""
    config, validation = plan.config, plan.splits.validation
    display = Display(progress, plan, model.term_names)
    while progress.epoch < config.epochs and not (progress.stopped or progress.gave_up):
        model.fit(
            plan.batches(progress.epoch, progress.batch),
            initial_epoch=progress.epoch,
            epochs=progress.epoch + 1 if progress.batch else config.epochs,
            steps_per_epoch=plan.steps_per_epoch - progress.batch,
            shuffle=False,
            verbose=0,
            validation_data=for_evaluation(validation) if len(validation.labels) else None,
            validation_freq=config.validation_every,
            callbacks=[progress, display, *callbacks],
        )
