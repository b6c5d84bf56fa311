"""Trained networks as SavedModels that TensorFlow Serving, or TensorFlow alone, loads."""

import errno
import functools
import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy import special

from tf_cutnmix import files
from tf_cutnmix.data.resizing import resize
from tf_cutnmix.errors import RunError, first_line
from tf_cutnmix.networks.foreign import copy_layer
from tf_cutnmix.serving.formats import Predict, check_installed, convert
from tf_cutnmix.serving.fresh import FreshProcess, fresh_process
from tf_cutnmix.serving.signatures import signatures

_TOLERANCE = 1e-4
_COMPARED = 32
_WARMUP = "assets.extra/tf_serving_warmup_requests"


def export(
    networks: Sequence[keras.Model],
    folder: pathlib.Path,
    class_names: Sequence[str],
    examples: np.ndarray,
    max_pixels: int = 64_000_000,
    *,
    how: str = "squash",
    temperature: float = 1.0,
    confident_from: float = 0.0,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
    formats: Sequence[str] = (),
    more: Mapping[str, bytes] | None = None,
) -> pathlib.Path:
    """Write one SavedModel of one or several networks, as the next version in `folder`.

    It answers as `signatures` has it. `assets/class_names.txt` holds a name per line,
    `assets/export.json` what the export is, with the figures of its formats.

    Before the version gets its place, the export is loaded in a fresh process that has
    TensorFlow but not this package, and its answers to the examples are compared; so are those
    of each further format in its own runtime. Exports within a block of `fresh_process` share
    that process.

    Args:
      networks: as of `build_network`; exported in float32 whatever they train in.
      folder: `<export_dir>/<name>`; the version `<folder>/<n>` is the highest there plus 1.
      class_names: of the `K` classes.
      examples: `[N, H, W, C]` uint8, images to compare the export with the networks on.
      max_pixels: of a file, as its header states them; larger ones are not decoded.
      how: it resizes, one of `data.resizing.RESIZINGS`.
      temperature: that the logits are divided by for probabilities.
      confident_from: the least probability of a class whose prediction is confident.
      labels: of the examples, `[N]`, for the formats' accuracy.
      calibration: `[M, H, W, C]` uint8, training images for 8 bits; by default the examples.
      formats: further ones, names of `FORMATS`.
      more: what further files of the version hold, by their names.

    Returns:
      The folder of the version.

    Raises:
      InputError: a format's packages are not installed.
      RunError: the export cannot be written or does not answer as the networks do.
    """
    check_installed(formats)
    networks = [_in_float32(network) for network in networks]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            files.scratch(folder, ".export-") as made,
            files.no_pattern(made) as scratch,
            fresh_process() as elsewhere,
        ):
            elsewhere.begin()
            answers = functools.partial(
                signatures,
                max_pixels=max_pixels,
                how=how,
                temperature=temperature,
                confident_from=confident_from,
            )
            written = _write(networks, scratch, class_names, answers)
            predict = functools.partial(_probabilities, networks, temperature, how)
            _compare(networks, predict, elsewhere, written, examples[:_COMPARED])
            figures = convert(formats, written, predict, examples, labels, calibration)
            _write_record(written, networks, how, figures, temperature, confident_from)
            _write_warmup(written, examples[:1])
            for name, content in (more or {}).items():
                (written / name).write_bytes(content)
            return _in_place(written, folder)
    except (OSError, tf.errors.OpError) as error:
        raise RunError(f"cannot write the export {folder}: {first_line(error)}") from error


def _in_place(written: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Move a version into its folder, as the highest there plus 1."""
    while True:
        versions = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()]
        version = folder / str(max(versions, default=0) + 1)
        try:
            return written.rename(version)
        except OSError as error:
            # Another export, of these networks or of others, was faster.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


def _in_float32(network: keras.Model) -> keras.Model:
    def in_float32(layer: keras.Operation) -> keras.Operation:
        is_layer = isinstance(layer, keras.layers.Layer)  # operations have no dtype
        return copy_layer(layer, dtype="float32") if is_layer else copy_layer(layer)

    copy = keras.models.clone_model(network, clone_function=in_float32)
    copy.set_weights(network.get_weights())
    return copy


def _write(
    networks: Sequence[keras.Model],
    scratch: pathlib.Path,
    class_names: Sequence[str],
    answers: Callable[[Sequence[keras.Model]], Any],
) -> pathlib.Path:
    names = scratch / "class_names.txt"
    names.write_text("".join(f"{name}\n" for name in class_names))
    # Holding the variables, not the networks: those would be written a second time.
    servable = tf.Module()
    servable.weights = [variable.value for n in networks for variable in n.variables]
    servable.class_names = tf.saved_model.Asset(str(names))
    written = scratch / "savedmodel"
    tf.saved_model.save(servable, str(written), answers(networks))
    return written


def _probabilities(
    networks: Sequence[keras.Model], temperature: float, how: str, images: np.ndarray
) -> np.ndarray:
    """The mean of the networks' predictions `[N, K]` for images of any size, at a temperature."""
    resized = resize(images, networks[0].input_shape[1:3], how)
    logits = [np.float64(network(resized, training=False)["logits"]) for network in networks]
    # Of sums of logarithms: a probability that rounds to 0 counts at a high temperature.
    total = special.logsumexp(special.log_softmax(logits, axis=-1), axis=0)
    return special.softmax(total / temperature, axis=-1)


def _compare(
    networks: Sequence[keras.Model],
    predict: Predict,
    elsewhere: FreshProcess,
    written: pathlib.Path,
    examples: np.ndarray,
) -> None:
    """Raise `RunError` unless a fresh process gets the networks' answers from the export."""
    features = [network(examples, training=False)["features"] for network in networks]
    expected = dict.fromkeys(
        ("serving_default", "serve_bytes", "portable", "fixed_size"), predict(examples)
    ) | {"features": np.concatenate(features, axis=-1)}
    encoded = np.array([tf.io.encode_png(image).numpy() for image in examples], dtype=object)
    request, answer = written.with_name("request.npz"), written.with_name("answer.npz")
    np.savez(request, images=examples, bytes=encoded)
    elsewhere.answer(written, request, answer)
    with np.load(answer) as answers:
        for signature, values in expected.items():
            distance = np.abs(answers[signature] - values).max()
            if not distance <= _TOLERANCE * max(1.0, np.abs(values).max()):
                raise RunError(
                    f"the export's signature {signature} is off by {distance:.2g} from the model"
                )


def _write_record(
    savedmodel: pathlib.Path,
    networks: Sequence[keras.Model],
    how: str,
    figures: Mapping,
    temperature: float,
    confident_from: float,
) -> None:
    height, width, channels = networks[0].input_shape[1:]
    content = {
        "networks": [network.name for network in networks],
        "parameters": sum(network.count_params() for network in networks),
        "input": {
            **{"height": height, "width": width, "channels": channels},
            **{"pixels": [0, 255], "resize": how},
        },
        "normalisation": {
            "inside_the_network": True,
            "of_each": [_normalisation(network) for network in networks],
        },
        "temperature": temperature,
        "confident_from": confident_from,
        "formats": dict(figures),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    text = json.dumps(content, indent=2) + "\n"
    (savedmodel / "assets" / "export.json").write_text(text)


def read_record(savedmodel: pathlib.Path) -> dict[str, Any]:
    """The record of an export."""
    return json.loads((savedmodel / "assets" / "export.json").read_text())


def record_lines(savedmodel: pathlib.Path) -> list[str]:
    """A line for each format of an export, if it has further ones: size and accuracy."""
    formats = read_record(savedmodel)["formats"]
    if len(formats) == 1:
        return []
    return [
        f"{savedmodel}: {name}, {one['bytes'] / 1e3:,.0f} kB"
        + (f", accuracy {one['accuracy']:.2%}" if "accuracy" in one else "")
        for name, one in formats.items()
    ]


def _normalisation(network: keras.Model) -> dict[str, list[float]] | None:
    """Mean and deviation in pixel values; None where a network has its own way."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance = np.ravel(layer.mean), np.ravel(layer.variance)
            return {"mean": mean.tolist(), "deviation": np.sqrt(variance).tolist()}
    return None


def _write_warmup(savedmodel: pathlib.Path, images: np.ndarray) -> None:
    """Write a request to `serving_default`, where the extra `serving` is installed."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        return
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_default"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    place = savedmodel / _WARMUP
    place.parent.mkdir()
    with tf.io.TFRecordWriter(str(place)) as writer:
        writer.write(log.SerializeToString())
