"""An export in further formats, each tried in its own runtime before it counts.

Each format is two functions: `_to_...` writes its file from a SavedModel, with images
`[M, H, W, C]` uint8 to calibrate on, and `_in_...` loads the file in its own runtime.
"""

import importlib.util
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_cutnmix import output
from tf_cutnmix.errors import InputError, RunError, first_line, last_line

_OPSET = 18
_BATCH = 32
_TOLERANCE = 1e-3
# One runtime rounds a pixel of a resized image up that another rounds down.
_TOLERANCE_RESIZED = 1e-2

# From pixels `[N, H, W, C]` uint8 to the arrays that the signature `portable` answers with.
Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
# From images `[N, H, W, C]` uint8 to `[N, K]`.
Probabilities = Callable[[np.ndarray], np.ndarray]


class Format(NamedTuple):
    """A way to store an export for a runtime that is not TensorFlow.

    Attributes:
      name: as `--export_format` has it.
      extra: of this package, which brings what it needs.
      packages: the modules that it needs.
      file: its name in the export.
      any_size: whether it resizes images itself; else it takes those of the networks' size.
      exact: whether its answers are the networks' to the last digits.
      convert: writes the file from a SavedModel, and images to calibrate on, uint8.
      load: the file in its own runtime.
    """

    name: str
    extra: str
    packages: tuple[str, ...]
    file: str
    any_size: bool
    exact: bool
    convert: Callable[[pathlib.Path, pathlib.Path, np.ndarray], None]
    load: Callable[[pathlib.Path], Answer]


def _to_litert(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """Both signatures without TensorFlow's own operations; they share their weights."""
    signatures = ["portable", "fixed_size"]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(savedmodel), signatures)
    file.write_bytes(converter.convert())


def _in_litert(file: pathlib.Path) -> Answer:
    """The signature `portable` in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner("portable")
    return lambda images: runner(images=images)


def _to_litert_int8(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `fixed_size`, whose ranges are those of the calibration images."""

    def requests() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for image in calibration:
            yield "fixed_size", {"images": image[np.newaxis].astype(np.float32)}

    converter = tf.lite.TFLiteConverter.from_saved_model(str(savedmodel), ["fixed_size"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = requests
    file.write_bytes(converter.convert())


def _in_litert_int8(file: pathlib.Path) -> Answer:
    """The signature `fixed_size` in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner("fixed_size")
    return lambda images: runner(images=images.astype(np.float32))


def _to_onnx(savedmodel: pathlib.Path, file: pathlib.Path, calibration: np.ndarray) -> None:
    """The signature `portable`, by tf2onnx's command, which freezes the weights as well.

    Raises:
      RunError: the command fails.
    """
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

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(file), "CPU", exact)
    names = [output.get_any_name() for output in model.outputs]

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, model(images).values(), strict=True))

    return answer


FORMATS = {
    one.name: one
    for one in (
        Format(
            name="litert",
            extra="litert",
            packages=("ai_edge_litert",),
            file="model.tflite",
            any_size=True,
            exact=True,
            convert=_to_litert,
            load=_in_litert,
        ),
        Format(
            name="litert_int8",
            extra="litert",
            packages=("ai_edge_litert",),
            file="model_int8.tflite",
            any_size=False,
            exact=False,
            convert=_to_litert_int8,
            load=_in_litert_int8,
        ),
        Format(
            name="onnx",
            extra="onnx",
            packages=("onnx", "onnxruntime", "tf2onnx"),
            file="model.onnx",
            any_size=True,
            exact=True,
            convert=_to_onnx,
            load=_in_onnx,
        ),
        Format(
            name="openvino",
            extra="openvino",
            packages=("openvino",),
            file="model.xml",
            any_size=True,
            exact=True,
            convert=_to_openvino,
            load=_in_openvino,
        ),
    )
}


class Examples(NamedTuple):
    """Images to try an export on.

    Attributes:
      pixels: `[N, H, W, C]` uint8, of the networks' size.
      resized: `[n, h, w, C]` uint8, of another size.
      labels: `[N]`, or None where they are not known.
      calibration: `[M, H, W, C]` uint8, training images for 8 bits.
      probabilities: what the networks say of images of any size.
    """

    pixels: np.ndarray
    resized: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray
    probabilities: Probabilities


def check_installed(names: Sequence[str]) -> None:
    """Raise `InputError` for the first format whose packages are not installed."""
    for name in names:
        missing = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
        if missing:
            raise InputError(
                f"--export_format={name} needs {', '.join(missing)}, not installed here: "
                f"pip install 'tf_cutnmix[{FORMATS[name].extra}]'"
            )


def convert(names: Sequence[str], savedmodel: pathlib.Path, examples: Examples) -> dict[str, Any]:
    """Write formats into the folder of a SavedModel.

    Returns:
      Of each format by name, and of "savedmodel": its `file` and its size in `bytes`, the
      `accuracy` on the examples if their labels are known, and for the formats the largest
      difference of a probability to the networks' and how many answers are the same class.

    Raises:
      RunError: one cannot be written, or does not answer as the networks do.
    """
    said = _in_batches(examples.probabilities, examples.pixels)
    size = sum(p.stat().st_size for p in savedmodel.rglob("*") if p.is_file())
    figures = {"savedmodel": {"file": ".", "bytes": size, **_accuracy(said, examples.labels)}}
    for name in names:
        form = FORMATS[name]
        answered = _tried(form, savedmodel, examples)
        difference = np.abs(answered - said).max()
        # Written so that NaN is refused too.
        if not difference <= (_TOLERANCE if form.exact else 1.0):
            raise RunError(f"{form.file} is off by {difference:.2g} from the model")
        files = savedmodel.glob(f"{pathlib.Path(form.file).stem}.*")
        own = [savedmodel / form.file, *(f for f in files if f.suffix == ".bin")]
        figures[name] = {
            "file": form.file,
            "bytes": sum(file.stat().st_size for file in own),
            **_accuracy(answered, examples.labels),
            "largest_difference": float(difference),
            "agreement": float(np.mean(answered.argmax(-1) == said.argmax(-1))),
        }
    return figures


def _tried(form: Format, savedmodel: pathlib.Path, examples: Examples) -> np.ndarray:
    """The probabilities that a new file of a format answers the examples with."""
    file = savedmodel / form.file
    try:
        with output.held_back():
            form.convert(savedmodel, file, examples.calibration)
            answer = form.load(file)
            answered = _in_batches(_probabilities_of(answer), examples.pixels)
            resized = _probabilities_of(answer)(examples.resized) if form.any_size else None
    # Converters and runtimes raise errors of kinds of their own.
    except Exception as error:
        raise RunError(f"cannot export as {form.name}: {first_line(error)}") from error
    if resized is not None:
        difference = np.abs(resized - examples.probabilities(examples.resized)).max()
        if not difference <= _TOLERANCE_RESIZED:
            raise RunError(f"{form.file} is off by {difference:.2g} on images of another size")
    return answered


def _probabilities_of(answer: Answer) -> Probabilities:
    return lambda images: answer(images)["probabilities"]


def _in_batches(probabilities: Probabilities, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), _BATCH)
    return np.concatenate([probabilities(images[start : start + _BATCH]) for start in starts])


def _accuracy(probabilities: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    if labels is None:
        return {}
    return {"accuracy": float(np.mean(probabilities.argmax(axis=-1) == labels))}
