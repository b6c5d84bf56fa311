"""The start: from a new process to its first training step, and what it holds by then."""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks import fresh, turns
from benchmarks.tables import Row

TITLE = (
    "Seconds from the start of a process until it has imported what it needs, built its model "
    "and made the first training step (a batch of 32 images of 32x32), each counted from the "
    "start; then a following step, and the most memory held. Ours trains n peers and averages "
    "them; Keras trains n networks of its own layers, one after another, without either."
)
_BATCH = 32
_SHAPE = (32, 32, 3)
_CLASSES = 10
_FOLLOWING = 3


class Start(NamedTuple):
    """What a fresh process does.

    Attributes:
      program: "ours" or "Keras".
      depth: of the ResNets, 6n+2.
      count: of networks.
      xla: whether XLA compiles the step.
    """

    program: str
    depth: int
    count: int
    xla: bool


def rows(quick: bool) -> Iterator[Row]:
    """A row for each way to compile, depth and number of networks."""
    graph = [(20, 1), (20, 2), (20, 4), (20, 8), (56, 2), (110, 2)]
    chosen = [(*size, False) for size in graph] + [(20, 2, True), (110, 2, True)]
    for depth, count, xla in [(8, 1, False)] if quick else chosen:
        yield _row(depth, count, xla, repeats=1 if quick else 2)


def _row(depth: int, count: int, xla: bool, repeats: int) -> Row:
    measured: dict[str, list[dict[str, float]]] = {"ours": [], "Keras": []}
    for _ in range(repeats):
        for program, runs in measured.items():
            start = Start(program, depth, count, xla)
            runs.append(fresh.answer(__name__, json.dumps(start), str(time.time())))
    cells: dict[str, Any] = {"compiled": "xla" if xla else "graph", "depth": depth, "n": count}
    for program, runs in measured.items():
        for figure in runs[0]:
            cells[f"{program}: {figure}"] = turns.summary([run[figure] for run in runs])
    for figure in ("first step, s", "memory, MiB"):
        values = {program: [run[figure] for run in runs] for program, runs in measured.items()}
        cells[f"ours / Keras: {figure.split(',')[0]}"] = turns.ratio(values, "ours", "Keras")
    return cells


def _measure(start: Start, begin: float) -> dict[str, float]:
    """The figures of this process, which began at `begin` in seconds of `time.time`."""
    # Imported in functions: the parent needs none of it, and how long it takes is measured.
    importlib.import_module({"ours": "tf_cutnmix", "Keras": "keras"}[start.program])
    imported = time.time()
    step = {"ours": _ours, "Keras": _keras}[start.program](start)
    built = time.time()
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, [_BATCH, *_SHAPE], np.uint8)
    labels = generator.integers(0, _CLASSES, [_BATCH]).astype(np.int32)
    step(images, labels)
    first = time.time()
    following = []
    for _ in range(_FOLLOWING):
        before = time.perf_counter()
        step(images, labels)
        following.append((time.perf_counter() - before) * 1e3)
    return {
        "imported, s": imported - begin,
        "built, s": built - begin,
        "first step, s": first - begin,
        "step, ms": sorted(following)[_FOLLOWING // 2],
        # As `tf_cutnmix.cost.peak_memory`, which the Keras program would have to import first.
        "memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _ours(start: Start) -> Callable:
    import keras

    from tf_cutnmix import CropAndFlip, CutNMix, OnlineDistiller, build_network

    peers = [build_network(f"resnet{start.depth}", _SHAPE, _CLASSES) for _ in range(start.count)]
    mixing = CutNMix(start.count, num_classes=_CLASSES, seed=0)
    model = OnlineDistiller(peers, mixing, "cutnmix", augment=CropAndFlip(seed=0))
    model.compile(keras.optimizers.SGD(0.1, 0.9, nesterov=True), jit_compile=start.xla)
    return model.train_on_batch


def _keras(start: Start) -> Callable:
    import keras

    models = [resnet(start.depth) for _ in range(start.count)]
    for model in models:
        optimizer = keras.optimizers.SGD(0.1, 0.9, nesterov=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=start.xla)
    return lambda *batch: [model.train_on_batch(*batch) for model in models]


def resnet(depth: int) -> Any:
    """The network of `build_network("resnet<depth>")`, of Keras' own layers alone."""
    from keras import Input, Model, layers, ops

    def convolved(x: Any, filters: int, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    images = Input(_SHAPE)
    x = layers.ReLU()(convolved(layers.Rescaling(1 / 63.75, -2.0)(images), 16))
    for filters in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            new = filters - x.shape[-1]
            strides = 2 if new else 1
            inside = layers.ReLU()(convolved(x, filters, strides))
            if new:
                x = ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (new // 2, new // 2)))
            x = layers.ReLU()(layers.Add()([convolved(inside, filters), x]))
    logits = layers.Dense(_CLASSES)(layers.GlobalAveragePooling2D()(x))
    return Model(images, logits)


if __name__ == "__main__":
    print(json.dumps(_measure(Start(*json.loads(sys.argv[1])), float(sys.argv[2]))))
