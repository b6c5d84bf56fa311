"""The training step: the whole framework against n plain steps of the same peers."""

import statistics
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks import pytorch, turns
from benchmarks.tables import Row
from tf_cutnmix import CutNMix, Method, OnlineDistiller, build_network
from tf_cutnmix.mixing.augment import CropAndFlip
from tf_cutnmix.runs import cost

TITLE = (
    "Milliseconds a step, float32 unless named, without XLA, images 32 x 32. Whole: crops, mirror "
    "images, Cut^nMix, n peers, n averages, adapters, all terms, the moving average. Plain: one "
    "network's forward, backward and SGD, n times one after another. Compiled: torch.compile. "
    "Floor: the arithmetic of the whole step's convolutions, at the speed of TensorFlow's product "
    "of two large matrices."
)
_NUM_CLASSES = 10
_MATRIX = 2048


def rows(quick: bool) -> Iterator[Row]:
    """A row for each depth, number of peers and batch size."""
    cases = [(20, 2, 128), (20, 4, 128), (20, 2, 512), (32, 2, 128)]
    for depth, num_peers, batch in [(8, 2, 8)] if quick else cases:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, [batch, 32, 32, 3], np.uint8)
        labels = generator.integers(0, _NUM_CLASSES, batch).astype(np.int32)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels_last memory
        soft = torch.from_numpy(np.eye(_NUM_CLASSES, dtype=np.float32)[labels])
        model = _distiller(depth, num_peers, "float32")
        in_bfloat16 = _distiller(depth, num_peers, "mixed_bfloat16")
        programs = {
            "whole": _stepping([model], images, labels),
            "whole, bfloat16": _stepping([in_bfloat16], images, labels),
            "plain": _plain(depth, num_peers, images, labels),
            "PyTorch whole": _torch_whole(depth, num_peers, pixels, soft, None),
            "PyTorch whole, compiled": _torch_whole(depth, num_peers, pixels, soft, "default"),
            "PyTorch plain": _torch_plain(depth, num_peers, pixels, soft, None),
            "PyTorch plain, compiled": _torch_plain(depth, num_peers, pixels, soft, "default"),
            "matrix product": _matrix_product(),
        }
        times = turns.in_turns(programs, seconds=0 if quick else 60, least=2 if quick else 8)
        yield {
            "network": f"resnet{depth}",
            "n": num_peers,
            "batch": batch,
            "floor, ms": _floor(model, batch, times["matrix product"]),
            **{f"{name}, ms": turns.summary(values) for name, values in times.items()},
            "whole / plain": turns.ratio(times, "whole", "plain"),
            "whole / whole, bfloat16": turns.ratio(times, "whole", "whole, bfloat16"),
            "plain / PyTorch plain": turns.ratio(times, "plain", "PyTorch plain"),
            "whole / PyTorch whole": turns.ratio(times, "whole", "PyTorch whole"),
            "whole / PyTorch whole, compiled": turns.ratio(
                times, "whole", "PyTorch whole, compiled"
            ),
        }


def _optimizer() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)


def _distiller(depth: int, num_peers: int, precision: str) -> OnlineDistiller:
    keras.config.set_dtype_policy(precision)
    try:
        peers = [
            build_network(f"resnet{depth}", (32, 32, 3), _NUM_CLASSES) for _ in range(num_peers)
        ]
        model = OnlineDistiller(
            peers,
            CutNMix(num_peers, num_classes=_NUM_CLASSES, seed=0),
            Method("cutnmix"),
            augment=CropAndFlip(seed=0),
            weight_decay=5e-4,
        )
        model.compile(_optimizer())
    finally:
        keras.config.set_dtype_policy("float32")
    return model


def _plain(depth: int, num_peers: int, images: np.ndarray, labels: np.ndarray) -> Callable:
    models = []
    for _ in range(num_peers):
        network = build_network(f"resnet{depth}", (32, 32, 3), _NUM_CLASSES)
        model = keras.Model(network.input, network.output["logits"])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(_optimizer(), loss)
        models.append(model)
    return _stepping(models, images, labels)


def _matrix_product() -> Callable:
    matrix = tf.random.stateless_normal([_MATRIX, _MATRIX], seed=[0, 0])
    return tf.function(lambda: tf.matmul(matrix, matrix))


def _floor(model: OnlineDistiller, batch: int, milliseconds: Sequence[float]) -> float:
    """Milliseconds that a step's arithmetic takes at the speed of the matrix product."""
    operations = batch * cost.training_flops(model)
    return operations / (2 * _MATRIX**3) * statistics.median(milliseconds)


def _stepping(models: list[keras.Model], images: np.ndarray, labels: np.ndarray) -> Callable:
    """A call takes one step of each model, in the order of the models."""
    batch = (tf.constant(images), tf.constant(labels))
    steps = [tf.function(lambda *data, m=model: m.train_step(data)) for model in models]

    def step() -> None:
        for take_step in steps:
            take_step(*batch)

    return step


def _torch_whole(
    depth: int, num_peers: int, images: torch.Tensor, labels: torch.Tensor, mode: str | None
) -> Callable:
    model = pytorch.Distiller(depth, num_peers, compile_mode=mode)
    return lambda: model.step(images, labels)


def _torch_plain(
    depth: int, num_peers: int, images: torch.Tensor, labels: torch.Tensor, mode: str | None
) -> Callable:
    models = [pytorch.PlainStep(depth, compile_mode=mode) for _ in range(num_peers)]

    def step() -> None:
        for model in models:
            model.step(images, labels)

    return step
