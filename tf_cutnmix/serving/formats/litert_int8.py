"""LiteRT with weights and maps of 8 bits: a third of the size, for processors without floats."""

import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tf_cutnmix.serving.formats.format import Answer, Format


def convert(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `fixed_size`, whose ranges are those of the calibration images."""

    def requests() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for image in calibration:
            yield "fixed_size", {"images": image[np.newaxis].astype(np.float32)}

    converter = tf.lite.TFLiteConverter.from_saved_model(str(savedmodel), ["fixed_size"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = requests
    file.write_bytes(converter.convert())


def load(file: pathlib.Path) -> Answer:
    """The signature `fixed_size` in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner("fixed_size")
    return lambda images: runner(images=images.astype(np.float32))


FORMAT = Format(
    name="litert_int8",
    extra="litert",
    packages=("ai_edge_litert",),
    file="model_int8.tflite",
    any_size=False,
    exact=False,
    convert=convert,
    load=load,
)
