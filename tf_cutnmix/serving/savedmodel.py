"""Trained networks as SavedModels that TensorFlow Serving, or TensorFlow alone, loads."""

import errno
import functools
import pathlib
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix import files
from tf_cutnmix.data.images import resize
from tf_cutnmix.errors import RunError, first_line
from tf_cutnmix.networks.copies import copy_layer
from tf_cutnmix.serving import conversion, record, resizing, warmup
from tf_cutnmix.serving.files import decode_each
from tf_cutnmix.serving.fresh import FreshProcess, fresh_process

_TOLERANCE = 1e-4
_COMPARED = 32
_RESIZED = 4
_LUMA = (0.299, 0.587, 0.114)


def export(
    networks: Sequence[keras.Model],
    folder: pathlib.Path,
    class_names: Sequence[str],
    examples: np.ndarray,
    max_pixels: int = 64_000_000,
    *,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
    formats: Sequence[str] = (),
    more: Mapping[str, bytes] | None = None,
) -> pathlib.Path:
    """Write one SavedModel of one or several networks, as the next version in `folder`.

    Signatures, with any number of images or none, resized to the networks' own size:
      serving_default: `images` `[N, H, W, 3]` uint8 of any size. Networks for greyscale take
        greyscale `[N, H, W, 1]`, too.
      serve_bytes: `bytes` `[N]`, PNG, JPEG, GIF, BMP or WebP files, turned as their cameras were
        held. It answers with `valid` `[N]` bool as well: a file that is none of these, not whole
        or too large has False there, and zeros in all else, class 0 included.
      features: `images` as above, to `features` `[N, D]`, the networks' side by side.
      portable: as serving_default, in operations that every converter knows.
      fixed_size: `images` `[N, H, W, C]` float32 of the networks' size and channels, pixels of
        0 to 255.
    All but features answer with `probabilities` `[N, K]`, the mean over the networks, `logits`
    `[N, K]` and `classes` `[N]` int64. `assets/class_names.txt` holds a name per line,
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
    conversion.check_installed(formats)
    networks = [_in_float32(network) for network in networks]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            files.scratch(folder, ".export-") as made,
            files.no_pattern(made) as scratch,
            fresh_process() as elsewhere,
        ):
            elsewhere.begin()
            written = _write(networks, scratch, class_names, max_pixels)
            _compare(networks, elsewhere, written, examples[:_COMPARED])
            tried = _examples(networks, examples, labels, calibration)
            figures = conversion.convert(formats, written, tried)
            record.write(written, networks, figures)
            warmup.write(written, examples[:1])
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


def _signatures(
    networks: Sequence[keras.Model], max_pixels: int
) -> dict[str, tf.types.experimental.GenericFunction]:
    """What an export answers; its prediction is the mean of the networks' probabilities."""
    height, width, channels = networks[0].input_shape[1:]
    size = (height, width)
    if channels not in (1, 3):
        raise RunError(f"pictures have 1 or 3 channels, and the networks take {channels}")
    # Of greyscale networks, the images may have either number.
    many_images = tf.TensorSpec([None, None, None, {3: 3}.get(channels)], tf.uint8, name="images")
    many_files = tf.TensorSpec([None], tf.string, name="bytes")
    many_pixels = tf.TensorSpec([None, *size, channels], tf.float32, name="images")

    def outputs(images: tf.Tensor, name: str) -> list[tf.Tensor]:
        # A black image in place of none, which some processors convolve to another shape. No
        # tf.cond: OpenVINO takes the wrong branch.
        count = tf.shape(images)[0]
        padded = tf.pad(images, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
        padded.set_shape([None, *images.shape[1:]])
        return [network(padded, training=False)[name][:count] for network in networks]

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = outputs(images, "logits")
        if len(logits) > 1:
            # The logarithm of the mean probability: its softmax is that mean again.
            each = tf.stack([tf.nn.log_softmax(z) for z in logits])
            largest = tf.reduce_max(each, axis=0)
            mean = tf.reduce_mean(tf.exp(each - largest), axis=0)
            logits = [largest + tf.math.log(mean)]
        return {
            "probabilities": tf.nn.softmax(logits[0]),
            "logits": logits[0],
            "classes": tf.argmax(logits[0], axis=-1),
        }

    def in_channels(images: tf.Tensor) -> tf.Tensor:
        return images if images.shape[-1] == channels else _grey(images)

    @tf.function(input_signature=[many_images], autograph=False)
    def serve_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(resize(in_channels(images), size))

    @tf.function(input_signature=[many_files], autograph=False)
    def serve_bytes(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        images, valid = decode_each(encoded, size, max_pixels)
        answer = predict(in_channels(images)) | {"valid": valid}
        blank = ~valid[:, tf.newaxis]
        for name in ("probabilities", "logits"):
            answer[name] = tf.where(blank, 0.0, answer[name])
        answer["classes"] = tf.where(valid, answer["classes"], 0)
        return answer

    @tf.function(input_signature=[many_images], autograph=False)
    def serve_features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = outputs(resize(in_channels(images), size), "features")
        return {"features": tf.concat(features, axis=-1)}

    @tf.function(input_signature=[many_images], autograph=False)
    def serve_portably(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(resizing.resize(in_channels(images), size))

    @tf.function(input_signature=[many_pixels], autograph=False)
    def serve_pixels(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(images)

    return {
        "serving_default": serve_images,
        "serve_bytes": serve_bytes,
        "features": serve_features,
        "portable": serve_portably,
        "fixed_size": serve_pixels,
    }


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Images `[N, H, W, 1 or 3]` uint8 as greyscale, `[N, H, W, 1]` uint8."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    weights = tf.gather(tf.constant([(1.0, 0.0, 0.0), _LUMA]), channels // 3)[:channels]
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, channels])
    grey = tf.round(tf.linalg.matvec(pixels, weights))
    return tf.cast(tf.reshape(grey, [count, height, width, 1]), tf.uint8)


def _write(
    networks: Sequence[keras.Model],
    scratch: pathlib.Path,
    class_names: Sequence[str],
    max_pixels: int,
) -> pathlib.Path:
    names = scratch / "class_names.txt"
    names.write_text("".join(f"{name}\n" for name in class_names))
    # Holding the variables, not the networks: those would be written a second time.
    servable = tf.Module()
    servable.weights = [variable.value for n in networks for variable in n.variables]
    servable.class_names = tf.saved_model.Asset(str(names))
    written = scratch / "savedmodel"
    tf.saved_model.save(servable, str(written), _signatures(networks, max_pixels))
    return written


def _probabilities(networks: Sequence[keras.Model], images: np.ndarray) -> np.ndarray:
    """The mean of the networks' predictions for images of any size."""
    resized = resize(images, networks[0].input_shape[1:3])
    each = [tf.nn.softmax(network(resized, training=False)["logits"]) for network in networks]
    return np.mean(each, axis=0)


def _examples(
    networks: Sequence[keras.Model],
    pixels: np.ndarray,
    labels: np.ndarray | None,
    calibration: np.ndarray | None,
) -> conversion.Examples:
    height, width = networks[0].input_shape[1:3]
    return conversion.Examples(
        pixels,
        resize(pixels[:_RESIZED], (height + height // 2, 2 * width)).numpy(),
        labels,
        pixels if calibration is None else calibration,
        functools.partial(_probabilities, networks),
    )


def _compare(
    networks: Sequence[keras.Model],
    elsewhere: FreshProcess,
    written: pathlib.Path,
    examples: np.ndarray,
) -> None:
    """Raise `RunError` unless a fresh process gets from the export what the networks say."""
    probabilities = _probabilities(networks, examples)
    features = [network(examples, training=False)["features"] for network in networks]
    answering = ("serving_default", "serve_bytes", "portable", "fixed_size")
    expected = {
        **dict.fromkeys(answering, probabilities),
        "features": np.concatenate(features, axis=-1),
    }
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
