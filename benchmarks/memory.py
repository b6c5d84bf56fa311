"""Memory over many runs in one process: what stays of each."""

import contextlib
import dataclasses
import gc
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psutil

from benchmarks import fresh
from benchmarks.start import resnet
from benchmarks.tables import Row

TITLE = (
    "What a process holds after the third and after the last of equal trainings, one after "
    "another: 64 images of 32x32, two steps, the same images scored. Ours is a run of "
    "`train_and_evaluate` with its files, one ResNet-8 and its average; Keras fits and evaluates "
    "one ResNet-8 of its own layers and clears its session. Each row is a process of its own, its "
    "garbage collected."
)
_FIRST = 3


class Program(NamedTuple):
    """What is done again and again.

    Attributes:
      name: "ours" or "Keras".
      compiled: by XLA: "nothing", "views" (augmenting and mixing, as a run has it on a CPU) or
        "step".
    """

    name: str
    compiled: str


PROGRAMS = (
    *(Program("ours", "views"), Program("ours", "nothing")),
    *(Program("Keras", "step"), Program("Keras", "nothing")),
)


def rows(quick: bool) -> Iterator[Row]:
    """A row for each program and what XLA compiles of it."""
    for program in PROGRAMS[:1] if quick else PROGRAMS:
        yield _row(program, calls=_FIRST + 2 if quick else 50)


def _row(program: Program, calls: int) -> Row:
    held = fresh.answer(__name__, json.dumps(program), str(calls))
    (before, objects_before), (after, objects_after) = held[_FIRST - 1], held[-1]
    return {
        "program": program.name,
        "compiled by XLA": program.compiled,
        "calls": calls,
        "after the third, MiB": round(before),
        "after the last, MiB": round(after),
        "a call, MiB": round((after - before) / (calls - _FIRST), 1),
        "a call, Python objects": round((objects_after - objects_before) / (calls - _FIRST)),
    }


def _measure(program: Program, calls: int) -> list[tuple[float, int]]:
    """Memory in MiB and Python objects after each call."""
    call = {"ours": _ours, "Keras": _keras}[program.name](program.compiled)
    held = []
    for _ in range(calls):
        call()
        gc.collect()
        held.append((psutil.Process().memory_info().rss / 2**20, len(gc.get_objects())))
    return held


def _ours(compiled: str) -> Callable[[], Any]:
    # Imported in functions: a row of the one is not to hold the other.
    from tf_cutnmix.runs.config import Config
    from tf_cutnmix.runs.experiment import train_and_evaluate

    config = Config(
        dataset="digits",
        train_split="train[:64]",
        test_split="train[:64]",
        validation_fraction=0.0,
        image_size=32,
        arch="resnet8",
        num_peers=1,
        batch_size=32,
        epochs=1,
        export="",
        **({} if compiled == "views" else {"augment": "none", "mix": "none"}),
    )

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            train_and_evaluate(dataclasses.replace(config, workdir=f"{folder}/run"))

    return call


def _keras(compiled: str) -> Callable[[], Any]:
    import keras
    import numpy as np

    images = np.zeros((64, 32, 32, 3), np.uint8)
    labels = np.arange(64) % 10

    def call() -> None:
        model = resnet(8)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1, 0.9), loss, jit_compile=compiled == "step")
        model.fit(images, labels, 32, verbose=0)
        model.evaluate(images, labels, 32, verbose=0)
        del model
        keras.backend.clear_session()

    return call


if __name__ == "__main__":
    print(json.dumps(_measure(Program(*json.loads(sys.argv[1])), int(sys.argv[2]))))
