"""From a picture's file to its pixels, by TensorFlow's operations alone, as exports need it."""

import tensorflow as tf

_MARKER = 0xFF
_APP1 = 0xE1
# Markers after which no metadata come: the end of the file, and the start of its pixels.
_LAST_MARKERS = (0xD9, 0xDA)
_ORIENTATION = 0x0112
_SHORT = 3


def decode(file: tf.Tensor, max_pixels: int | None = None) -> tf.Tensor:
    """The picture in a PNG, JPEG, GIF, BMP or WebP file, turned as its camera was held.

    Grey becomes three equal channels and an alpha channel is left out; of 16 bits the upper 8
    count, of an animation the first picture.

    Args:
      file: the bytes, a scalar.
      max_pixels: that the file may state to hold; None for any number.

    Returns:
      `[H, W, 3]` uint8.

    Raises:
      tf.errors.InvalidArgumentError: `size` is 0 or too large, or the file is no whole picture.
    """
    # What TensorFlow cannot read it must not see: an animated WebP ends its process.
    stated = tf.reduce_prod(tf.maximum(size(file), 0))
    file = tf.where((stated > 0) & (stated <= (max_pixels or stated)), file, "")
    pixels = tf.cond(
        _is(file, 0, b"RIFF"),
        # A WebP file with an alpha channel is decoded with it or not at all.
        lambda: tf.io.decode_image(file, channels=0, expand_animations=False)[..., :3],
        lambda: tf.io.decode_image(file, channels=3, expand_animations=False),
    )
    pixels = tf.ensure_shape(pixels, [None, None, 3])
    held = orientation(file)
    return tf.cond(held == 1, lambda: pixels, lambda: turn(pixels, held))


def size(file: tf.Tensor) -> tf.Tensor:
    """Height and width of the picture as its file states them, `[2]` int64, before any turn.

    They are 0 where `decode` does not read such files: those of other kinds, BMP files with a
    palette or packed, and animated WebP files.

    Raises:
      tf.errors.InvalidArgumentError: a JPEG file has no size.
    """
    unknown = tf.zeros([2], tf.int64)
    return tf.case(
        [
            (_is(file, 0, b"\x89PNG\r\n\x1a\n"), lambda: _pair(file, 20, 16, 4, big=True)),
            (_is(file, 0, b"\xff\xd8\xff"), lambda: tf.io.extract_jpeg_shape(file, tf.int64)[:2]),
            (_is(file, 0, b"GIF8"), lambda: _pair(file, 8, 6, 2)),
            (_is(file, 0, b"BM"), lambda: tf.where(_bmp_has_colours(file), _bmp(file), unknown)),
            (_is(file, 8, b"WEBPVP8 "), lambda: _pair(file, 28, 26, 2) & 0x3FFF),
            (_is(file, 8, b"WEBPVP8L"), lambda: _webp_lossless(file)),
            (_is(file, 8, b"WEBPVP8X"), lambda: tf.where(_still(file), _webp(file), unknown)),
        ],
        default=lambda: unknown,
    )


def orientation(file: tf.Tensor) -> tf.Tensor:
    """How the camera that wrote a JPEG file was held, 1 to 8 as EXIF has it, a scalar int64.

    It is 1, upright, where the file is no JPEG, or does not say or says it in a wrong way.
    """

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        marker = _number(file, at + 1, 1)
        last = tf.reduce_any(marker == tf.constant(_LAST_MARKERS, tf.int64))
        return (_number(file, at, 1) == _MARKER) & ~last & ~_is_exif(file, at)

    def next_segment(at: tf.Tensor) -> tuple[tf.Tensor]:
        return (at + 2 + _number(file, at + 2, 2, big=True),)

    def search() -> tf.Tensor:
        (at,) = tf.while_loop(goes_on, next_segment, [tf.constant(2, tf.int64)])
        return tf.cond(_is_exif(file, at), lambda: _orientation_in(file, at + 10), lambda: upright)

    upright = tf.ones([], tf.int64)
    return tf.cond(_is(file, 0, b"\xff\xd8\xff"), search, lambda: upright)


def turn(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture `[H, W, C]` as it is to be seen, from an orientation of 1 to 8."""
    transposed = tf.transpose(pixels, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
    upside_down = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8], tf.int64))
    mirrored = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7], tf.int64))
    return tf.reverse(transposed, tf.boolean_mask([0, 1], [upside_down, mirrored]))


def _orientation_in(file: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """What the first directory of a TIFF header at `start` says."""
    big = _is(file, start, b"MM\x00\x2a")

    def number(at: tf.Tensor, count: int) -> tf.Tensor:
        return tf.where(big, _number(file, at, count, big=True), _number(file, at, count))

    directory = start + number(start + 4, 4)
    # A tag is 12 bytes: its number, its type, how many values, the value.
    bytes_of_tags = _bytes(file, directory + 2, 12 * number(directory, 2))
    whole = tf.size(bytes_of_tags) // 12 * 12
    tags = tf.cast(tf.reshape(bytes_of_tags[:whole], [-1, 6, 2]), tf.int64)
    first, second = tf.unstack(tags, axis=-1)
    numbers = tf.where(big, 256 * first + second, first + 256 * second)
    is_it = (numbers[:, 0] == _ORIENTATION) & (numbers[:, 1] == _SHORT)
    found = tf.concat([numbers[:, 4][is_it], tf.ones([1], tf.int64)], axis=0)[0]
    known = (big | _is(file, start, b"II\x2a\x00")) & (found >= 1) & (found <= 8)
    return tf.where(known, found, 1)


def _is_exif(file: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Whether a segment of a JPEG file holds EXIF."""
    return (_number(file, at + 1, 1) == _APP1) & _is(file, at + 4, b"Exif\x00")


def _bmp_has_colours(file: tf.Tensor) -> tf.Tensor:
    """Whether a BMP file stores the colours themselves: others TensorFlow reads as if they were."""
    header, bits, packing = _number(file, 14, 4), _number(file, 28, 2), _number(file, 30, 4)
    return (header >= 40) & ((bits == 24) & (packing == 0) | (bits == 32) & (packing % 3 == 0))


def _bmp(file: tf.Tensor) -> tf.Tensor:
    """The height is negative where the first row is the upper one."""
    return tf.abs(
        tf.cast(tf.bitcast(tf.cast(_pair(file, 22, 18, 4), tf.uint32), tf.int32), tf.int64)
    )


def _webp_lossless(file: tf.Tensor) -> tf.Tensor:
    bits = _number(file, 21, 4)
    return 1 + tf.stack([tf.bitwise.right_shift(bits, 14) & 0x3FFF, bits & 0x3FFF])


def _webp(file: tf.Tensor) -> tf.Tensor:
    return 1 + _pair(file, 27, 24, 3)


def _still(file: tf.Tensor) -> tf.Tensor:
    return _number(file, 20, 1) & 0x02 == 0


def _pair(file: tf.Tensor, height: int, width: int, count: int, *, big: bool = False) -> tf.Tensor:
    """Two numbers of so many bytes, `[2]`."""
    return tf.stack([_number(file, at, count, big=big) for at in (height, width)])


def _number(file: tf.Tensor, at: tf.Tensor, count: int, *, big: bool = False) -> tf.Tensor:
    """A number of `count` bytes, its lowest byte first unless it is big-endian; 0 past the end."""
    found = tf.cast(_bytes(file, at, count), tf.int64)
    padded = tf.pad(found, [[0, count - tf.size(found)]])
    places = [256**place for place in range(count)]
    return tf.reduce_sum(padded * tf.constant(places[::-1] if big else places, tf.int64))


def _bytes(file: tf.Tensor, at: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Up to `count` bytes, uint8, as many as there are."""
    at = tf.minimum(tf.cast(at, tf.int64), tf.cast(tf.strings.length(file), tf.int64))
    return tf.io.decode_raw(tf.strings.substr(file, at, tf.cast(count, tf.int64)), tf.uint8)


def _is(file: tf.Tensor, at: tf.Tensor, text: bytes) -> tf.Tensor:
    """Whether the file has this text at a place."""
    at = tf.minimum(tf.cast(at, tf.int64), tf.cast(tf.strings.length(file), tf.int64))
    return tf.strings.substr(file, at, tf.constant(len(text), tf.int64)) == text
