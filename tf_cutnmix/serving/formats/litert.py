"""LiteRT (formerly TensorFlow Lite): one file for phones and microcomputers."""

import pathlib

import numpy as np
import tensorflow as tf

from tf_cutnmix.serving.formats.format import Answer, Format


def convert(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """Both signatures without TensorFlow's own operations; they share their weights."""
    signatures = ["portable", "fixed_size"]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(savedmodel), signatures)
    file.write_bytes(converter.convert())


def load(file: pathlib.Path) -> Answer:
    """The signature `portable` in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner("portable")
    return lambda images: runner(images=images)


FORMAT = Format(
    name="litert",
    extra="litert",
    packages=("ai_edge_litert",),
    file="model.tflite",
    any_size=True,
    exact=True,
    convert=convert,
    load=load,
)
