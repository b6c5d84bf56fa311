"""Mixing: a batch of images and one-hot labels to `n` mixed views and their labels."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import keras_cv
import numpy as np
import tensorflow as tf
import torch

from benchmarks import pytorch, turns
from benchmarks.tables import Row
from tf_cutnmix import CutNMix, mix_dataset

TITLE = (
    "Milliseconds a batch of n mixed views. Keras' and KerasCV's CutMix are called n times; "
    "neither compiles under XLA, so that where ours does they run in a graph. memcpy "
    "copies the views from one array to another. Eight calls at a stretch, after four that are "
    "not counted; in a map, eight batches."
)
_BATCH = {32: 256, 224: 32}


def rows(quick: bool) -> Iterator[Row]:
    """A row for each way to call, dtype, size and number of views."""
    sizes = (32,) if quick else (32, 224)
    for size in sizes:
        for num_views in (3,) if quick else (1, 2, 3, 4):
            for dtype in ("uint8",) if quick else ("uint8", "float32"):
                for mode in ("xla",) if quick else ("eager", "graph", "xla", "map"):
                    yield _row(mode, dtype, size, num_views, seconds=0.2 if quick else 2.0)


def _row(mode: str, dtype: str, size: int, num_views: int, seconds: float) -> Row:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, [_BATCH[size], size, size, 3]).astype(dtype)
    labels = np.eye(10, dtype=np.float32)[np.arange(len(images)) % 10]
    programs = {
        "ours": _ours(mode, images, labels, num_views),
        **_layers(mode, images, labels, num_views),
        "PyTorch": _torch(images, labels, num_views),
        "memcpy": _memcpy(images, num_views),
    }
    times = turns.in_turns(programs, seconds=seconds, calls=8, lead=4, warm_up=1)
    return {
        "called": mode,
        "dtype": dtype,
        "images": f"{len(images)} x {size} x {size}",
        "n": num_views,
        **{f"{name}, ms": turns.summary(values) for name, values in times.items()},
        **{
            f"{name} / ours": turns.ratio(times, name, "ours")
            for name in ("Keras", "KerasCV", "PyTorch")
        },
        "ours / memcpy": turns.ratio(times, "ours", "memcpy"),
    }


def _ours(mode: str, images: np.ndarray, labels: np.ndarray, num_views: int) -> Callable:
    layer = CutNMix(num_views, seed=0)
    if mode == "map":
        return _next(_batches(images, labels).apply(mix_dataset(layer)))
    return _called(mode, layer, images, labels)


def _layers(
    mode: str, images: np.ndarray, labels: np.ndarray, num_views: int
) -> dict[str, Callable]:
    """The CutMix of Keras and of KerasCV, as often as there are views."""
    mode = "graph" if mode == "xla" else mode
    programs = {}
    for name, layer in (("Keras", keras.layers.CutMix()), ("KerasCV", keras_cv.layers.CutMix())):

        def views(batch: dict, layer: keras.layers.Layer = layer) -> list:
            return [layer(batch, training=True) for _ in range(num_views)]

        if mode == "map":
            mapped = _batches(images, labels).map(
                lambda x, y, views=views: views({"images": x, "labels": y}),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            programs[name] = _next(mapped)
        else:
            programs[name] = _called(mode, views, images, labels)
    return programs


def _called(mode: str, mix: Callable, images: np.ndarray, labels: np.ndarray) -> Callable:
    images, labels = tf.constant(images), tf.constant(labels)

    def call(images: tf.Tensor, labels: tf.Tensor) -> Any:
        return mix({"images": images, "labels": labels})

    function = call if mode == "eager" else tf.function(call, jit_compile=mode == "xla")
    return lambda: function(images, labels)


def _batches(images: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


def _next(dataset: tf.data.Dataset) -> Callable:
    iterator = iter(dataset)
    return lambda: next(iterator)


def _torch(images: np.ndarray, labels: np.ndarray, num_views: int) -> Callable:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels_last memory
    soft = torch.from_numpy(labels)
    return lambda: pytorch.cutnmix(pixels, soft, num_views)


def _memcpy(images: np.ndarray, num_views: int) -> Callable:
    source = np.repeat(images, num_views, axis=0)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)
