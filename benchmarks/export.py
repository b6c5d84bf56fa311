"""Serving: an export of this package against the Keras model that it came from."""

import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks import pytorch, turns
from benchmarks.tables import Row
from tf_cutnmix import build_network
from tf_cutnmix.serving import export

TITLE = (
    "Milliseconds to answer a batch of 32x32 images with a ResNet-20, or with the mean of two. "
    "`tf.function` is the Keras model with the same softmax, traced for one shape. Eight calls at "
    "a stretch, after four that are not counted."
)
_SAVED, _FILES, _FUNCTION = "SavedModel", "SavedModel, PNG files", "tf.function"
_SHAPE = (32, 32, 3)
_CLASSES = 10


def rows(quick: bool) -> Iterator[Row]:
    """A row for each number of networks and of images."""
    network = "resnet8" if quick else "resnet20"
    for count in (1,) if quick else (1, 2):
        keras.utils.set_random_seed(0)
        networks = [build_network(network, _SHAPE, _CLASSES) for _ in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            names = [f"class {number}" for number in range(_CLASSES)]
            version = export(networks, pathlib.Path(folder) / "timed", names, _images(4))
            served = tf.saved_model.load(str(version))
        for batch in (1,) if quick else (1, 64):
            yield _row(networks, served.signatures, batch, seconds=0.2 if quick else 10.0)


def _row(
    networks: Sequence[keras.Model],
    signatures: dict[str, Callable[..., dict[str, tf.Tensor]]],
    batch: int,
    seconds: float,
) -> Row:
    pixels = _images(batch)
    images = tf.constant(pixels)
    files = tf.stack([tf.io.encode_png(image) for image in images])
    model = _mean_prediction(networks)
    function = tf.function(lambda images: model(images, training=False), autograph=False)
    programs = {
        _SAVED: lambda: signatures["serving_default"](images=images)["probabilities"].numpy(),
        _FILES: lambda: signatures["serve_bytes"](bytes=files)["probabilities"].numpy(),
        _FUNCTION: lambda: function(images).numpy(),
        "predict_on_batch": lambda: model.predict_on_batch(pixels),
    }
    limits = {"seconds": seconds, "calls": 8, "lead": 4}
    times = turns.in_turns(programs, **limits)
    ratios: dict[str, Any] = {
        f"{name} / {_FUNCTION}": turns.ratio(times, name, _FUNCTION)
        for name in (_SAVED, "predict_on_batch")
    }
    if len(networks) == 1:
        # Not in turns: PyTorch's threads spin on after a call, and would slow whoever is next.
        times |= turns.in_turns({"PyTorch": _torch(networks[0].name, pixels)}, **limits)
    milliseconds = {name: turns.summary(values) for name, values in times.items()}
    return {
        "networks": len(networks),
        "images": batch,
        **{f"{name}, ms": figures for name, figures in milliseconds.items()},
        "SavedModel, images/s": round(batch / milliseconds[_SAVED]["median"] * 1e3),
        **ratios,
    }


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [count, *_SHAPE], np.uint8)


def _mean_prediction(networks: Sequence[keras.Model]) -> keras.Model:
    """A model from images `[B, H, W, 3]` to the mean of the networks' probabilities."""
    images = keras.Input(_SHAPE, dtype="uint8")
    logits = [
        # Under names of their own: a model may not hold two of one name.
        keras.Model(network.input, network.output["logits"], name=f"network{number}")(images)
        for number, network in enumerate(networks)
    ]
    predictions = [keras.layers.Softmax()(of_one) for of_one in logits]
    mean = keras.layers.Average()(predictions) if len(networks) > 1 else predictions[0]
    return keras.Model(images, mean)


def _torch(name: str, pixels: np.ndarray) -> Callable:
    network = pytorch.ResNet(int(name.removeprefix("resnet"))).eval()
    network = network.to(memory_format=torch.channels_last)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels_last memory

    @torch.inference_mode()
    def answer() -> np.ndarray:
        return torch.softmax(network(images)[1], dim=-1).numpy()

    return answer
