"""From a picture's file to its pixels, by TensorFlow's operations alone, as exports need it."""

import tensorflow as tf

_JPEG = b"\xff\xd8\xff"
_MARKER = 0xFF
_APP1 = 0xE1
# Markers after which no metadata come: the end of the file, and the start of its pixels.
_LAST_MARKERS = (0xD9, 0xDA)
_ORIENTATION = 0x0112
# The types that hold one whole number: 2 bytes long, and 4.
_SHORTS, _LONGS = (3, 8), (4, 9)
# An empty segment by Adobe, as it precedes CMYK: version 100, no flags, no transformation.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
# Bytes of a JPEG file that are looked at together.
_WINDOW = 64
# Files of all kinds but JPEG state their size in so many bytes.
_HEADER = 34


def decode(file: tf.Tensor, max_pixels: int | None = None) -> tf.Tensor:
    """The picture in a PNG, JPEG, GIF, BMP or WebP file, turned upright by its EXIF orientation.

    Grey becomes three equal channels and an alpha channel is dropped; of 16 bits the upper 8 are
    used, of an animation the first frame. CMYK is read as Adobe writes it, as Pillow does.

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
    return decode_known(tf.where((stated > 0) & (stated <= (max_pixels or stated)), file, ""))


def decode_known(file: tf.Tensor) -> tf.Tensor:
    """What `decode` says of a file whose `size` is known not to be 0."""
    pixels = tf.cond(
        _starts_with(_bytes(file, 0, 4), b"RIFF"),
        # A WebP file with an alpha channel is decoded with it or not at all.
        lambda: tf.io.decode_image(file, channels=0, expand_animations=False)[..., :3],
        lambda: tf.io.decode_image(_with_adobe_marker(file), channels=3, expand_animations=False),
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
    return tf.cond(
        _is_jpeg(file),
        lambda: tf.io.extract_jpeg_shape(file, tf.int64)[:2],
        lambda: _size_in_header(_bytes(file, 0, _HEADER)),
    )


def orientation(file: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG file, 1 to 8, a scalar int64.

    It is 1, upright, for other files and where it is missing or invalid.
    """

    length = tf.strings.length(file, "BYTE")

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        segment = _bytes(file, at, _WINDOW)
        last = tf.reduce_any(segment[1] == tf.constant(_LAST_MARKERS, tf.int64))
        ends = _is_segment(segment)[0] & (last | _is_exif(segment))
        return (at < tf.cast(length, tf.int64)) & ~ends

    def next_segment(at: tf.Tensor) -> tuple[tf.Tensor]:
        begins = _is_segment(_bytes(file, at, _WINDOW))
        # Bytes between the segments, which fill or are junk, may be many.
        first = tf.argmax(tf.concat([begins, [True]], axis=0))
        own = 2 + _number(_bytes(file, at + 2, 2), big=True)
        return (at + tf.where(begins[0], own, first),)

    def search() -> tf.Tensor:
        (at,) = tf.while_loop(goes_on, next_segment, [tf.constant(2, tf.int64)])
        found = _is_exif(_bytes(file, at, _WINDOW))
        return tf.cond(found, lambda: _orientation_in(file, at + 10), lambda: upright)

    upright = tf.ones([], tf.int64)
    return tf.cond(_is_jpeg(file), search, lambda: upright)


def turn(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture `[H, W, C]` turned upright, from an EXIF orientation of 1 to 8."""
    transposed = tf.transpose(pixels, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
    upside_down = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8], tf.int64))
    mirrored = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7], tf.int64))
    return tf.reverse(transposed, tf.boolean_mask([0, 1], [upside_down, mirrored]))


def _size_in_header(header: tf.Tensor) -> tf.Tensor:
    """What `size` says of all kinds but JPEG: a file is of one of them or of none."""
    # The height of a BMP file is negative where its first row is the upper one.
    bmp = _pair(header[22:26], header[18:22])
    lossless = _number(header[21:25])
    variant, animated = header[8:], header[20] // 2 % 2 == 1
    kinds = [
        (_starts_with(header, b"\x89PNG\r\n\x1a\n"), _pair(header[20:24], header[16:20], big=True)),
        (_starts_with(header, b"GIF8"), _pair(header[8:10], header[6:8])),
        (_starts_with(header, b"BM") & _bmp_has_colours(header), tf.minimum(bmp, 2**32 - bmp)),
        (_starts_with(variant, b"WEBPVP8 "), _pair(header[28:30], header[26:28]) % 2**14),
        (_starts_with(variant, b"WEBPVP8L"), 1 + tf.stack([lossless // 2**14, lossless]) % 2**14),
        (_starts_with(variant, b"WEBPVP8X") & ~animated, 1 + _pair(header[27:30], header[24:27])),
    ]
    is_it, sizes = zip(*kinds, strict=True)
    return tf.reduce_sum(tf.where(tf.stack(is_it)[:, tf.newaxis], tf.stack(sizes), 0), axis=0)


def _bmp_has_colours(header: tf.Tensor) -> tf.Tensor:
    """Whether a BMP file stores the colours themselves: others TensorFlow reads as if they were."""
    length, bits, packing = (_number(header[a:b]) for a, b in [(14, 18), (28, 30), (30, 34)])
    return (length >= 40) & ((bits == 24) & (packing == 0) | (bits == 32) & (packing % 3 == 0))


def _is_jpeg(file: tf.Tensor) -> tf.Tensor:
    return _starts_with(_bytes(file, 0, len(_JPEG)), _JPEG)


def _with_adobe_marker(file: tf.Tensor) -> tf.Tensor:
    """A CMYK JPEG file with Adobe's marker: without it, TensorFlow alone takes ink for light."""

    def marked() -> tf.Tensor:
        cmyk = tf.io.extract_jpeg_shape(file)[2] == 4
        parts = [tf.strings.substr(file, 0, 2), _ADOBE, tf.strings.substr(file, 2, 2**31 - 1)]
        return tf.cond(cmyk, lambda: tf.strings.join(parts), lambda: file)

    return tf.cond(_is_jpeg(file), marked, lambda: file)


def _is_segment(window: tf.Tensor) -> tf.Tensor:
    """Where in a part of a JPEG file a segment may begin, `[_WINDOW - 1]`: at its marker."""
    after = window[1:]
    return (window[:-1] == _MARKER) & (after != _MARKER) & (after != 0)


def _is_exif(segment: tf.Tensor) -> tf.Tensor:
    """Whether a segment of a JPEG file, its marker and its length before it, holds EXIF."""
    return (segment[1] == _APP1) & _starts_with(segment[4:], b"Exif\x00\x00")


def _orientation_in(file: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """What the first directory of a TIFF header at `start` says."""
    header = _bytes(file, start, 8)
    big = _starts_with(header, b"MM\x00\x2a")

    def number(found: tf.Tensor) -> tf.Tensor:
        return tf.where(big, _number(found, big=True), _number(found))

    directory = start + number(header[4:])
    # A tag is 12 bytes: its number, its type, how many values, the value.
    count = number(_bytes(file, directory, 2))
    tags = _present(file, directory + 2, 12 * count)
    tags = tf.cast(tf.reshape(tags[: tf.size(tags) // 12 * 12], [-1, 6, 2]), tf.int64)
    first, second = tf.unstack(tags, axis=-1)
    numbers = tf.where(big, 256 * first + second, first + 256 * second)
    short, long = (
        tf.reduce_any(numbers[:, 1:2] == tf.constant(types, tf.int64), axis=1)
        for types in (_SHORTS, _LONGS)
    )
    first, second = numbers[:, 4], numbers[:, 5]
    wide = tf.where(big, 2**16 * first + second, first + 2**16 * second)
    values = tf.where(long, wide, first)
    is_it = (numbers[:, 0] == _ORIENTATION) & (short | long)
    found = tf.concat([values[is_it], tf.ones([1], tf.int64)], axis=0)[0]
    known = (big | _starts_with(header, b"II\x2a\x00")) & (found >= 1) & (found <= 8)
    return tf.where(known, found, 1)


def _pair(height: tf.Tensor, width: tf.Tensor, *, big: bool = False) -> tf.Tensor:
    """Two numbers, `[2]`."""
    return tf.stack([_number(height, big=big), _number(width, big=big)])


def _number(digits: tf.Tensor, *, big: bool = False) -> tf.Tensor:
    """The number of some bytes, its lowest first unless it is big-endian."""
    places = [256**place for place in range(digits.shape[0])]
    return tf.reduce_sum(digits * tf.constant(places[::-1] if big else places, tf.int64))


def _starts_with(found: tf.Tensor, text: bytes) -> tf.Tensor:
    """Whether bytes begin with a text."""
    return tf.reduce_all(found[: len(text)] == tf.constant(list(text), tf.int64))


def _bytes(file: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """So many bytes, `[count]` int64; past the end of the file they are 0."""
    found = tf.cast(_present(file, at, count), tf.int64)
    return tf.ensure_shape(tf.pad(found, [[0, count - tf.size(found)]]), [count])


def _present(file: tf.Tensor, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """As many bytes of those, uint8, as the file has."""
    at = tf.minimum(tf.cast(at, tf.int64), tf.cast(tf.strings.length(file), tf.int64))
    return tf.io.decode_raw(tf.strings.substr(file, at, tf.cast(count, tf.int64)), tf.uint8)
