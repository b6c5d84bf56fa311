"""A picture's file as its pixels: by TensorFlow, as in exports, and by Pillow where it cannot."""

import functools
import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from tf_cutnmix.data import decode
from tf_cutnmix.data.resizing import Target, prepare
from tf_cutnmix.errors import InputError, RunError, first_line

_CANON = b"II\x2a\x00\x10\x00\x00\x00CR"
_SUBFILE, _DNG_VERSION, _BITS_PER_SAMPLE = 0x00FE, 0xC612, 0x0102


def read(file: bytes, target: Target | None = None) -> np.ndarray:
    """The picture `[H, W, 3]` uint8 in a file of any kind, resized if asked.

    Raises:
      InputError: it is of a kind that is refused.
      RunError, tf.errors.OpError: it is no whole picture, by Pillow or by TensorFlow.
    """
    image = _decode(tf.constant(file), target).numpy()
    return image if image.size else np.asarray(prepare(np.asarray(by_pillow(file)), target))


@functools.partial(tf.function, autograph=False)
def _decode(file: tf.Tensor, target: Target | None) -> tf.Tensor:
    """The picture in a file; one without pixels where it is of a kind unknown to TensorFlow."""
    return tf.cond(
        tf.reduce_all(decode.size(file) > 0),
        lambda: prepare(_known(file), target),
        lambda: tf.zeros([0, 0, 3], tf.uint8),
    )


# Traced once for all sizes: its graph is large.
_known = tf.function(
    decode.decode_known, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)


def by_pillow(file: bytes) -> PIL.Image.Image:
    """The picture in a file, RGB, turned upright by its EXIF orientation.

    Raises:
      InputError: it is of a kind that is refused: raw, or of numbers whose range is unknown.
      RunError: it is no whole picture.
    """
    try:
        with PIL.Image.open(io.BytesIO(file)) as opened:
            tags = getattr(opened, "tag_v2", {})
            # What a camera's raw file holds first is a smaller copy of its picture.
            if _DNG_VERSION in tags or tags.get(_SUBFILE, 0) % 2 or file.startswith(_CANON):
                raise InputError("it is a camera's raw file: turn it into JPEG")
            return _in_8_bits(opened, tags.get(_BITS_PER_SAMPLE, (16,))[0]).convert("RGB")
    except InputError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise RunError("it is no picture, or of an unknown kind") from error
    except Exception as error:
        # What Pillow raises for a broken file depends on the kind of the file.
        raise RunError(first_line(error)) from error


def _in_8_bits(opened: PIL.Image.Image, bits: int) -> PIL.Image.Image:
    """The upper 8 of a picture's bits: Pillow itself cuts off what is above 255."""
    turned = PIL.ImageOps.exif_transpose(opened)
    # Of PGM files Pillow makes 16 bits whatever they state.
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PPM"):
        return PIL.Image.fromarray((np.asarray(turned) >> (bits - 8)).astype(np.uint8))
    if opened.mode in ("I", "F"):
        raise InputError(
            "its pixels are signed, of 32 bits or fractions, and it does not say which of them is "
            "white: turn it into 8 or 16 bits"
        )
    return turned
