"""ONNX: for ONNX Runtime on servers and desktops, and in browsers."""

import pathlib
import subprocess
import sys

import numpy as np

from tf_cutnmix.errors import RunError, last_line
from tf_cutnmix.serving.formats.format import Answer, Format

_OPSET = 18


def convert(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `portable`, by tf2onnx's command, which freezes the weights as well.

    Raises:
      RunError: the command fails.
    """
    command = [sys.executable, "-P", "-m", "tf2onnx.convert", "--saved-model", str(savedmodel)]
    command += ["--signature_def=portable", f"--opset={_OPSET}", f"--output={file}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RunError(f"tf2onnx failed: {last_line(process.stderr)}")


def load(file: pathlib.Path) -> Answer:
    """The file in ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


FORMAT = Format(
    name="onnx",
    extra="onnx",
    packages=("onnx", "onnxruntime", "tf2onnx"),
    file="model.onnx",
    any_size=True,
    exact=True,
    convert=convert,
    load=load,
)
