"""The signatures of an export, as functions that a SavedModel holds."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.data.decode import decode
from tf_cutnmix.data.resizing import placed, resize
from tf_cutnmix.errors import RunError
from tf_cutnmix.networks.heatmap import heatmaps, looked_at

_LUMA = (0.299, 0.587, 0.114)


def signatures(
    networks: Sequence[keras.Model],
    max_pixels: int,
    temperature: float = 1.0,
    confident_from: float = 0.0,
    how: str = "squash",
) -> dict[str, tf.types.experimental.GenericFunction]:
    """The signatures of an export, by name.

    They take any number of images, none included, and resize them to the networks' own size, as
    one of `data.resizing.RESIZINGS` says how:
      serving_default: `images` `[N, H, W, 3]` uint8 of any size. Networks for greyscale take
        greyscale `[N, H, W, 1]`, too.
      serve_bytes: `bytes` `[N]`, PNG, JPEG, GIF, BMP or WebP files, turned upright by their EXIF
        orientation. It answers with `valid` `[N]` bool as well: a file that is none of these, not
        whole or of more than `max_pixels` has False there, and zeros and False in all else.
      features: `images` as above, to `features` `[N, D]`, the networks' side by side.
      portable: as serving_default, in operations that every converter knows.
      fixed_size: `images` `[N, H, W, C]` float32 of the networks' size and channels, pixels of
        0 to 255.
      heatmap: `images` as above, to `heatmap` `[N, height, width]` of 0 to 1, over the images as
        they are resized: what speaks for the predicted class, see `networks.heatmap`. There is
        none of a network that names no stages.
    All but features and heatmap answer with
      logits: `[N, K]`, of several networks the logarithm of their mean prediction.
      probabilities: `[N, K]`, the softmax of the logits divided by `temperature`.
      classes: `[N]` int64.
      confident: `[N]` bool, whether the largest probability is at least `confident_from`.
    """
    height, width, channels = networks[0].input_shape[1:]
    size = (height, width)
    if channels not in (1, 3):
        raise RunError(f"pictures have 1 or 3 channels, and the networks take {channels}")
    # Of greyscale networks, the images may have either number.
    many_images = tf.TensorSpec([None, None, None, {3: 3}.get(channels)], tf.uint8, name="images")
    many_files = tf.TensorSpec([None], tf.string, name="bytes")
    many_pixels = tf.TensorSpec([None, *size, channels], tf.float32, name="images")

    def some(images: tf.Tensor) -> tf.Tensor:
        # A black image in place of none, which some processors convolve to another shape. No
        # tf.cond: OpenVINO takes the wrong branch.
        count = tf.shape(images)[0]
        padded = tf.pad(images, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
        # Converters know a shape by an operation alone.
        return tf.reshape(padded, [-1, *size, channels])

    def outputs(images: tf.Tensor, name: str) -> list[tf.Tensor]:
        padded, count = some(images), tf.shape(images)[0]
        return [network(padded, training=False)[name][:count] for network in networks]

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = outputs(images, "logits")
        if len(logits) > 1:
            # The logarithm of the mean probability: its softmax is that mean again.
            each = tf.stack([tf.nn.log_softmax(z) for z in logits])
            largest = tf.reduce_max(each, axis=0)
            mean = tf.reduce_mean(tf.exp(each - largest), axis=0)
            logits = [largest + tf.math.log(mean)]
        probabilities = tf.nn.softmax(logits[0] / temperature)
        return {
            "probabilities": probabilities,
            "logits": logits[0],
            "classes": tf.argmax(logits[0], axis=-1),
            "confident": tf.reduce_max(probabilities, axis=-1) >= confident_from,
        }

    def in_channels(images: tf.Tensor) -> tf.Tensor:
        return images if images.shape[-1] == channels else _grey(images)

    def answer_files(files: tf.Tensor) -> dict[str, tf.Tensor]:
        images, valid = decode_each(files, size, max_pixels, how)
        answer = predict(in_channels(images)) | {"valid": valid}
        blank = ~valid[:, tf.newaxis]
        for name in ("probabilities", "logits"):
            answer[name] = tf.where(blank, 0.0, answer[name])
        answer["classes"] = tf.where(valid, answer["classes"], 0)
        answer["confident"] &= valid
        return answer

    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        each = outputs(resize(in_channels(images), size, how), "features")
        return {"features": tf.concat(each, axis=-1)}

    def heatmap(images: tf.Tensor) -> dict[str, tf.Tensor]:
        resized = tf.cast(some(resize(in_channels(images), size, how)), tf.float32)
        return {"heatmap": heatmaps(networks, resized)[: tf.shape(images)[0]]}

    functions = {
        "serving_default": (lambda x: predict(resize(in_channels(x), size, how)), many_images),
        "serve_bytes": (answer_files, many_files),
        "features": (features, many_images),
        "portable": (lambda x: predict(resize_portably(in_channels(x), size, how)), many_images),
        "fixed_size": (predict, many_pixels),
    }
    if all(map(looked_at, networks)):
        functions["heatmap"] = (heatmap, many_images)
    return {
        name: tf.function(function, input_signature=[takes], autograph=False)
        for name, (function, takes) in functions.items()
    }


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Images `[N, H, W, 1 or 3]` uint8 as greyscale, `[N, H, W, 1]` uint8."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    weights = tf.gather(tf.constant([(1.0, 0.0, 0.0), _LUMA]), channels // 3)[:channels]
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, channels])
    grey = tf.round(tf.linalg.matvec(pixels, weights))
    return tf.cast(tf.reshape(grey, [count, height, width, 1]), tf.uint8)


def decode_each(
    files: tf.Tensor, size: tuple[int, int], max_pixels: int, how: str = "squash"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode and resize files `[N]`, in a graph or eagerly, with TensorFlow's operations alone.

    Returns:
      Images `[N, *size, 3]` uint8, and which of them are valid, `[N]` bool: the files that
      `data.decode` reads, are whole, and state no more than `max_pixels`. The others are zeros.
    """
    count = tf.size(files, tf.int64)

    def attempt(position: tf.Tensor, file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return position, resize(decode(file, max_pixels), size, how)

    # An operation that fails ends its graph, but not a pipeline that ignores errors. The last row
    # is there so that there is one.
    decoded = tf.data.Dataset.from_tensor_slices(files).enumerate()
    decoded = decoded.map(attempt, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    last = tf.data.Dataset.from_tensors((count, tf.zeros([*size, 3], tf.uint8)))
    positions, rows = decoded.concatenate(last).batch(count + 1).get_single_element()
    valid = tf.scatter_nd(positions[:, tf.newaxis], tf.ones_like(positions), [count + 1])[:-1] > 0
    # Where no row is, the last one is taken.
    places = tf.range(tf.size(positions, tf.int64))
    order = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], places[-1]), positions[:, tf.newaxis], places
    )
    return tf.ensure_shape(tf.gather(rows, order[:-1]), [None, *size, 3]), valid


def resize_portably(images: tf.Tensor, size: tuple[int, int], how: str = "squash") -> tf.Tensor:
    """Pixels `[N, H, W, C]` of 0 to 255 at `(height, width)`, rounded to whole numbers, float32.

    The filter of `data.resize`, as a matrix product for each axis. LiteRT, ONNX and OpenVINO
    cannot convert TensorFlow's own operation. A pixel whose exact value is next to a half may be
    rounded to the other side.
    """
    # Why there are two: of photos TensorFlow's operation takes a small part of the time, as it
    # multiplies by no zeros, and gathering the rows that count is no match for it either.
    # No tf.cond for images that have the size already: OpenVINO takes the wrong branch.
    pixels = tf.cast(images, tf.float32)
    inside, start = placed(tf.shape(images)[1:3], size, how)
    for axis, length in enumerate(size):
        pixels = _along_the_rows(pixels, length, inside[axis], start[axis])
    return tf.reshape(tf.round(pixels), [-1, *size, images.shape[-1]])


def _along_the_rows(
    images: tf.Tensor, length: int, inside: tf.Tensor, start: tf.Tensor
) -> tf.Tensor:
    """`[N, H, W, C]` to `[N, W, length, C]`: the axes change places, so that twice does both."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    channels = images.shape[-1] or channels
    rows = tf.reshape(images, [count, height, width * channels])
    resized = tf.matmul(_weights(height, length, inside, start), rows)
    return tf.transpose(tf.reshape(resized, [count, length, width, channels]), [0, 2, 1, 3])


def _weights(before: tf.Tensor, after: int, inside: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """The triangle filter to `after` pixels, `[after, before]`.

    The `before` pixels land on `inside` pixels that begin at `start`. Their rows sum to 1, others
    are 0.
    """
    scale = tf.cast(before, tf.float32) / tf.cast(inside, tf.float32)
    places = tf.range(after) - start
    centres = (tf.cast(places, tf.float32) + 0.5) * scale
    distances = tf.abs(tf.range(tf.cast(before, tf.float32)) + 0.5 - centres[:, tf.newaxis])
    weights = tf.maximum(1.0 - distances / tf.maximum(scale, 1.0), 0.0)
    weights *= tf.cast((places >= 0) & (places < inside), tf.float32)[:, tf.newaxis]
    # A row that is not 0 has a pixel at less than half of one, which weighs a half or more.
    return weights / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 0.5)
