"""Formats of an export: their size, their agreement with the network and their speed."""

import importlib.util
import pathlib
import tempfile
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from benchmarks import turns
from benchmarks.tables import Row
from tf_cutnmix import build_network, data
from tf_cutnmix.serving import export
from tf_cutnmix.serving.formats import FORMATS, Answer
from tf_cutnmix.serving.savedmodel import read_record

TITLE = (
    "A ResNet-8 for 8x8 digits, trained for some epochs, in each format whose packages are "
    "installed, in its own runtime. Agreement: of its answers with the network's, on 360 test "
    "images. Milliseconds for one image and for 32, of the network's size, and for a photo of "
    "480x640 pixels, by formats that resize."
)
_PHOTO = (1, 480, 640, 3)


def rows(quick: bool) -> Iterator[Row]:
    """A row for each format."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    network = _trained(train, epochs=1 if quick else 15)
    packages = {name: form.packages for name, form in FORMATS.items()}
    here = [n for n, ps in packages.items() if all(map(importlib.util.find_spec, ps))]
    with tempfile.TemporaryDirectory() as folder:
        version = export(
            [network],
            pathlib.Path(folder) / "timed",
            train.class_names,
            test.pixels,
            labels=test.labels,
            calibration=train.pixels[:200],
            formats=here,
        )
        served = tf.saved_model.load(str(version)).signatures["serving_default"]
        answers = {name: FORMATS[name].load(version / FORMATS[name].file) for name in here}
        answers["savedmodel"] = lambda images: served(images=tf.constant(images))
        photo = np.random.default_rng(0).integers(0, 256, _PHOTO, np.uint8)
        for name, figures in read_record(version)["formats"].items():
            yield {
                "format": name,
                "kB": round(figures["bytes"] / 1e3),
                "accuracy": figures["accuracy"],
                "agreement": figures.get("agreement", 1.0),
                "largest difference": figures.get("largest_difference", 0.0),
                "1 image, ms": _time(answers[name], test.pixels[:1], quick),
                "32 images, ms": _time(answers[name], test.pixels[:32], quick),
                "1 photo, ms": _time(answers[name], photo, quick) if _resizes(name) else None,
            }


def _resizes(name: str) -> bool:
    return name == "savedmodel" or not FORMATS[name].in_8_bits


def _time(answer: Answer, images: np.ndarray, quick: bool) -> dict[str, float]:
    times = turns.in_turns(
        {"answer": lambda: np.asarray(answer(images)["probabilities"])},
        seconds=0.2 if quick else 5.0,
        calls=8,
        lead=4,
    )
    return turns.summary(times["answer"])


def _trained(train: data.Images, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    shape = train.pixels.shape[1:]
    network = build_network("resnet8", shape, len(train.class_names))
    classifier = keras.Model(network.input, network.output["logits"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss)
    classifier.fit(train.pixels, train.labels, batch_size=64, epochs=epochs, verbose=0)
    return network
