"""Several devices: one and two processes measured, and computed from that what more would do."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import cluster
from benchmarks.tables import Row

TITLE = (
    "Two ResNet-20 and their averages with Cut^nMix, synchronised BatchNormalization, in processes "
    "that have one core each and share each batch of 32x32 images. Bytes: over the loopback "
    "device, a step. The rows after these are computed, none is measured: a step of B images on N "
    "devices takes a + b B / N + v B + 2 (N - 1) / N (g + h B) / W + C L log2 N seconds. a and b, "
    "a step without its views, and v, the views of an image, which every process makes, are those "
    "of one process here; g and h, the bytes of a step and of an image, and C, how often a step "
    "exchanges something, are those of two; W = 1.25e9 bytes a second and L = 5e-5 s are assumed. "
    "Efficiency: beside N times one device with as many images each; where it is below one half, "
    "more devices do not pay."
)
BATCHES = (64, 256)
COMPUTED = (8, 64, 512)
SHARED, EACH = 1024, 128
BANDWIDTH, LATENCY = 1.25e9, 5e-5
_LOOPBACK = "lo"


def rows(quick: bool) -> Iterator[Row]:
    """A row for each number of processes and batch, then those that are computed."""
    depth, batches, steps = (8, (16, 32), 3) if quick else (20, BATCHES, 20)
    measured = {}
    for processes in (1, 2):
        for batch in batches:
            found = _measured(processes, depth, batch, steps)
            measured[processes, batch] = found
            yield {
                "devices": processes,
                "batch": batch,
                "from": "measured",
                "step, ms": 1e3 * found["step"],
                "images/s": batch / found["step"],
                "MB a step": found["bytes"] / 1e6,
                "exchanges": found["exchanges"],
                "efficiency": None
                if processes == 1
                else measured[1, batch]["step"] / (2 * found["step"]),
            }
    model = _fitted(measured, batches)
    for devices in COMPUTED:
        for batch in sorted({SHARED, EACH * devices}):
            seconds = _step(model, devices, batch)
            alone = _step(model, 1, batch // devices)
            yield {
                "devices": devices,
                "batch": batch,
                "from": "computed",
                "step, ms": 1e3 * seconds,
                "images/s": batch / seconds,
                "MB a step": (model["g"] + model["h"] * batch) / 1e6,
                "exchanges": model["C"],
                "efficiency": alone / seconds,
            }


def _fitted(measured: dict[tuple[int, int], dict[str, float]], batches: Sequence[int]) -> dict:
    """The constants of the formula, lines through what was measured with two batches."""
    small, large = batches

    def line(values: Sequence[float]) -> tuple[float, float]:
        slope = (values[1] - values[0]) / (large - small)
        return values[0] - slope * small, slope

    one = [measured[1, batch] for batch in batches]
    two = [measured[2, batch] for batch in batches]
    fixed, per_image = line([found["step"] - found["views"] for found in one])
    _, views = line([found["views"] for found in one])
    # The loopback device carries what both processes send; of two each sends half of it.
    sent, sent_per_image = line([found["bytes"] / 2 for found in two])
    return {
        **{"a": max(fixed, 0.0), "b": per_image, "v": max(views, 0.0)},
        **{"g": max(sent, 0.0), "h": max(sent_per_image, 0.0), "C": two[0]["exchanges"]},
    }


def _step(model: dict[str, float], devices: int, batch: int) -> float:
    """Seconds, by the formula."""
    alone = model["a"] + model["b"] * batch / devices + model["v"] * batch
    if devices == 1:
        return alone
    sent = 2 * (devices - 1) / devices * (model["g"] + model["h"] * batch)
    rounds = model["C"] * LATENCY * (devices - 1).bit_length()
    return alone + sent / BANDWIDTH + rounds


def _measured(processes: int, depth: int, batch: int, steps: int) -> dict[str, float]:
    """What the first of some processes finds."""
    begun = []
    for number, told in enumerate(cluster.configs(processes)):
        flags = [f"--{n}={v}" for n, v in (("depth", depth), ("batch", batch), ("steps", steps))]
        command = [sys.executable, "-m", "benchmarks.scale", *flags]
        environment = {**os.environ, "TF_CONFIG": told} if processes > 1 else dict(os.environ)
        core = sorted(os.sched_getaffinity(0))[number % os.cpu_count()]
        begun.append(
            subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate()[0] for process in begun]
    return json.loads(said[0].splitlines()[-1])


def _worker(depth: int, batch: int, steps: int) -> dict[str, float]:
    """Train some steps in this process, with others if TF_CONFIG names them."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tf_cutnmix import CropAndFlip, CutNMix, OnlineDistiller, build_network
    from tf_cutnmix.distillation import synchronise

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    several = "TF_CONFIG" in os.environ
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else None
    keras.utils.set_random_seed(0)
    peers = [build_network(f"resnet{depth}", (32, 32, 3), 10) for _ in range(2)]
    if several:
        synchronise(peers)
    mixing, augment = CutNMix(num_peers=2, num_classes=10, seed=0), CropAndFlip(seed=0)
    model = OnlineDistiller(peers, mixing, "cutnmix", augment=augment, strategy=strategy)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    images = tf.constant(random.integers(0, 256, (batch, 32, 32, 3), np.uint8))
    labels = tf.constant(random.integers(0, 10, batch))
    step = tf.function(lambda *data: model.train_step(data), autograph=False)
    views = tf.function(lambda *data: model.make_views(*data, tf.constant(0, tf.int64)))
    _times(lambda: step(images, labels), 3)
    _times(lambda: views(images, labels), 3)
    before = _sent()
    seconds = _times(lambda: step(images, labels), steps)
    sent = (_sent() - before) / steps
    graph = step.get_concrete_function(images, labels).graph
    return {
        "step": statistics.median(seconds),
        "views": statistics.median(_times(lambda: views(images, labels), steps)),
        "bytes": sent if several else 0,
        "exchanges": sum(_exchanges(g) for g in (graph, *_functions(graph))),
    }


def _functions(graph: Any) -> list[Any]:
    return [function.graph for function in getattr(graph, "_functions", {}).values()]


def _exchanges(graph: Any) -> int:
    return sum(
        operation.type.startswith("CollectiveReduce") for operation in graph.get_operations()
    )


def _times(function: Any, count: int) -> list[float]:
    found = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return found


def _sent() -> int:
    """Bytes over the loopback device until now."""
    lines = pathlib.Path("/proc/net/dev").read_text().splitlines()
    (line,) = [line for line in lines if line.strip().startswith(f"{_LOOPBACK}:")]
    return int(line.split(":")[1].split()[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("depth", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    print(json.dumps(_worker(**vars(parser.parse_args()))))
