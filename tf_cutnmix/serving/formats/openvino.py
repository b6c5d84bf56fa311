"""OpenVINO: for Intel's processors."""

import pathlib

import numpy as np
import tensorflow as tf

from tf_cutnmix.serving.formats.format import Answer, Format


def convert(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `portable`; the weights lie beside the file, in `.bin`."""
    import openvino

    loaded = tf.saved_model.load(str(savedmodel))
    model = openvino.convert_model(loaded.signatures["portable"])
    # Left to itself, OpenVINO stores weights in 16 bits.
    openvino.save_model(model, str(file), compress_to_fp16=False)


def load(file: pathlib.Path) -> Answer:
    """The file in OpenVINO, on the CPU, in float32 on processors that have bfloat16 too."""
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(file), "CPU", exact)
    names = [output.get_any_name() for output in model.outputs]

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, model(images).values(), strict=True))

    return answer


FORMAT = Format(
    name="openvino",
    extra="openvino",
    packages=("openvino",),
    file="model.xml",
    any_size=True,
    exact=True,
    convert=convert,
    load=load,
)
