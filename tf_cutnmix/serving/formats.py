"""An export in further formats, each tried in its own runtime before it counts.

Each format is two functions: `_to_...` writes its file from a SavedModel, with images
`[M, H, W, C]` uint8 to calibrate on, and `_in_...` loads the file in its own runtime.
"""

import functools
import importlib.util
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_cutnmix import output
from tf_cutnmix.data.resizing import resize
from tf_cutnmix.errors import InputError, RunError, first_line, last_line

_OPSET = 18
_BATCH = 32
_RESIZED = 4
_TOLERANCE = 1e-3
# One runtime rounds a pixel of a resized image up that another rounds down.
_TOLERANCE_RESIZED = 1e-2

# From pixels `[N, H, W, C]` uint8 to the arrays that a signature answers with.
Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
# From images `[N, H, W, C]` uint8 to `[N, K]`.
Predict = Callable[[np.ndarray], np.ndarray]


class Format(NamedTuple):
    """A way to store an export for a runtime that is not TensorFlow.

    Attributes:
      file: its name in the export.
      extra: of this package, which brings what it needs.
      packages: the modules that it needs.
      convert: writes the file from a SavedModel, and images to calibrate on, uint8.
      load: the file in its own runtime.
      in_8_bits: whether its answers are near the networks' alone, of images of their size alone;
        others resize images, and answer as the networks do to the last digits.
    """

    file: str
    extra: str
    packages: tuple[str, ...]
    convert: Callable[[pathlib.Path, pathlib.Path, np.ndarray], None]
    load: Callable[[pathlib.Path], Answer]
    in_8_bits: bool = False


def _to_litert(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """Both signatures without TensorFlow's own operations; they share their weights."""
    signatures = ["portable", "fixed_size"]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(savedmodel), signatures)
    file.write_bytes(converter.convert())


def _to_litert_int8(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `fixed_size`, whose ranges are those of the calibration images."""

    def requests() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for image in calibration:
            yield "fixed_size", {"images": image[np.newaxis].astype(np.float32)}

    converter = tf.lite.TFLiteConverter.from_saved_model(str(savedmodel), ["fixed_size"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = requests
    file.write_bytes(converter.convert())


def _in_litert(file: pathlib.Path, signature: str, dtype: type) -> Answer:
    """A signature in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner(signature)
    return lambda images: runner(images=images.astype(dtype, copy=False))


def _to_onnx(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `portable`, by tf2onnx's command, which freezes the weights as well."""
    command = [sys.executable, "-P", "-m", "tf2onnx.convert", "--saved-model", str(savedmodel)]
    command += ["--signature_def=portable", f"--opset={_OPSET}", f"--output={file}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RunError(f"tf2onnx failed: {last_line(process.stderr)}")


def _in_onnx(file: pathlib.Path) -> Answer:
    """The file in ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def _to_openvino(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `portable`; the weights lie beside the file, in `.bin`."""
    import openvino

    loaded = tf.saved_model.load(str(savedmodel))
    model = openvino.convert_model(loaded.signatures["portable"])
    # Left to itself, OpenVINO stores weights in 16 bits.
    openvino.save_model(model, str(file), compress_to_fp16=False)


def _in_openvino(file: pathlib.Path) -> Answer:
    """The file in OpenVINO, on the CPU, in float32 on processors that have bfloat16 too."""
    import openvino

    model = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in model.outputs]
    return lambda images: dict(zip(names, model(images).values(), strict=True))


FORMATS = {
    "litert": Format(
        "model.tflite",
        "litert",
        ("ai_edge_litert",),
        _to_litert,
        functools.partial(_in_litert, signature="portable", dtype=np.uint8),
    ),
    "litert_int8": Format(
        "model_int8.tflite",
        "litert",
        ("ai_edge_litert",),
        _to_litert_int8,
        functools.partial(_in_litert, signature="fixed_size", dtype=np.float32),
        in_8_bits=True,
    ),
    "onnx": Format("model.onnx", "onnx", ("onnx", "onnxruntime", "tf2onnx"), _to_onnx, _in_onnx),
    "openvino": Format("model.xml", "openvino", ("openvino",), _to_openvino, _in_openvino),
}


def check_installed(names: Sequence[str]) -> None:
    """Raise `InputError` for the first format whose packages are not installed."""
    for name in names:
        missing = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
        if missing:
            raise InputError(
                f"--export_format={name} needs {', '.join(missing)}, not installed here: "
                f"pip install 'tf_cutnmix[{FORMATS[name].extra}]'"
            )


def convert(
    names: Sequence[str],
    savedmodel: pathlib.Path,
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write formats into the folder of a SavedModel.

    Args:
      names: of `FORMATS`.
      savedmodel: the folder.
      predict: the networks' probabilities of images of any size.
      images: `[N, H, W, C]` uint8, of the networks' size, to try the formats on.
      labels: of the images, `[N]`, where they are known.
      calibration: `[M, H, W, C]` uint8, training images for 8 bits; by default the images.

    Returns:
      Of each format by name, and of "savedmodel": its `file` and its size in `bytes`, the
      `accuracy` on the images if their labels are known, and for the formats the largest
      difference of a probability to the networks' and how many answers are the same class.

    Raises:
      RunError: one cannot be written, or does not answer as the networks do.
    """
    expected = _in_batches(predict, images)
    size = sum(p.stat().st_size for p in savedmodel.rglob("*") if p.is_file())
    figures = {"savedmodel": {"file": ".", "bytes": size, **_accuracy(expected, labels)}}
    height, width = images.shape[1:3]
    larger = resize(images[:_RESIZED], (height + height // 2, 2 * width)).numpy()
    for name in names:
        form = FORMATS[name]
        file = savedmodel / form.file
        resized = None
        try:
            with output.held_back():
                form.convert(savedmodel, file, images if calibration is None else calibration)
                answer = form.load(file)
                answered = _in_batches(_probabilities(answer), images)
                if not form.in_8_bits:
                    resized = answer(larger)["probabilities"]
        # Converters and runtimes raise errors of kinds of their own.
        except Exception as error:
            raise RunError(f"cannot export as {name}: {first_line(error)}") from error
        difference = np.abs(answered - expected).max()
        # Written so that NaN is refused too.
        if not difference <= (1.0 if form.in_8_bits else _TOLERANCE):
            raise RunError(f"{form.file} is off by {difference:.2g} from the model")
        if resized is not None:
            distance = np.abs(resized - predict(larger)).max()
            if not distance <= _TOLERANCE_RESIZED:
                raise RunError(f"{form.file} is off by {distance:.2g} on images of another size")
        # OpenVINO's weights lie in a file of their own.
        written = [path for path in (file, file.with_suffix(".bin")) if path.exists()]
        figures[name] = {
            "file": form.file,
            "bytes": sum(path.stat().st_size for path in written),
            **_accuracy(answered, labels),
            "largest_difference": float(difference),
            "agreement": float(np.mean(answered.argmax(-1) == expected.argmax(-1))),
        }
    return figures


def _probabilities(answer: Answer) -> Predict:
    return lambda images: answer(images)["probabilities"]


def _in_batches(predict: Predict, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), _BATCH)
    return np.concatenate([predict(images[start : start + _BATCH]) for start in starts])


def _accuracy(probabilities: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    if labels is None:
        return {}
    return {"accuracy": float(np.mean(probabilities.argmax(axis=-1) == labels))}
