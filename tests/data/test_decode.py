"""Files of every common kind, in a graph and eagerly, against Pillow."""

import io
import struct

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from tests.data.pictures import noise
from tf_cutnmix.data import decode, folder

RGB = PIL.Image.fromarray(noise(20, 30))
RGBA = PIL.Image.fromarray(noise(20, 30, 4))
GREY_16 = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def jpeg(orientation: int, endian: str = "<") -> bytes:
    exif = PIL.Image.Exif()
    exif.endian = endian
    exif[0x0112] = orientation
    return encoded(RGB, "JPEG", exif=exif)


@pytest.fixture(scope="module")
def in_a_graph() -> tf.types.experimental.GenericFunction:
    specification = [tf.TensorSpec([], tf.string)]
    return tf.function(decode.decode, input_signature=specification, autograph=False)


@pytest.fixture(scope="module")
def in_training() -> tf.types.experimental.GenericFunction:
    specification = [tf.TensorSpec([], tf.string)]
    return tf.function(folder.picture, input_signature=specification, autograph=False)


ANIMATED = {"save_all": True, "append_images": [PIL.ImageOps.flip(RGB)]}
EXACT = {
    "PNG": encoded(RGB, "PNG"),
    "PNG, alpha": encoded(RGBA, "PNG"),
    "PNG, grey": encoded(RGB.convert("L"), "PNG"),
    "PNG, grey and alpha": encoded(RGBA.convert("LA"), "PNG"),
    "PNG, palette": encoded(RGB.convert("P"), "PNG", transparency=3),
    "PNG, black and white": encoded(RGB.convert("1"), "PNG"),
    "GIF": encoded(RGB, "GIF"),
    "GIF, animated": encoded(RGB, "GIF", **ANIMATED),
    "BMP": encoded(RGB, "BMP"),
    "BMP, alpha": encoded(RGBA, "BMP"),
    "WebP": encoded(RGB, "WEBP"),
    "WebP, alpha": encoded(RGBA, "WEBP", exact=True),
    "WebP, lossless": encoded(RGB, "WEBP", lossless=True),
    "WebP, lossless, alpha": encoded(RGBA, "WEBP", lossless=True, exact=True),
}
ALMOST = {
    "JPEG": encoded(RGB, "JPEG"),
    "JPEG, progressive": encoded(RGB, "JPEG", progressive=True),
    "JPEG, grey": encoded(RGB.convert("L"), "JPEG"),
    "JPEG, CMYK": encoded(RGB.convert("CMYK"), "JPEG"),
}
# The sign of its height says so.
EXACT["BMP, first row first"] = EXACT["BMP"][:22] + struct.pack("<i", -20) + EXACT["BMP"][26:]
BY_PILLOW = {
    "TIFF": encoded(RGB, "TIFF"),
    "TIFF, turned": encoded(RGB, "TIFF", exif=PIL.Image.open(io.BytesIO(jpeg(6))).getexif()),
    "BMP, palette": encoded(RGB.convert("P"), "BMP"),
    "BMP, black and white": encoded(RGB.convert("1"), "BMP"),
    "WebP, animated": encoded(RGB, "WEBP", lossless=True, **ANIMATED),
}


@pytest.mark.parametrize("kind", [*EXACT, *ALMOST])
def test_a_file_has_the_pixels_that_pillow_sees(kind, in_a_graph, in_training) -> None:
    file = (EXACT | ALMOST)[kind]
    expected = np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))
    pixels = in_a_graph(file).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape == (*decode.size(file), 3)
    # JPEG leaves the last bits to who decodes it.
    assert np.abs(pixels.astype(int) - expected).max() <= (4 if kind in ALMOST else 0)
    np.testing.assert_array_equal(in_training(file), pixels)


@pytest.mark.parametrize("kind", BY_PILLOW)
def test_what_tensorflow_does_not_decode_right_is_left_to_pillow(
    kind, in_a_graph, in_training
) -> None:
    file = BY_PILLOW[kind]
    assert decode.size(file).numpy().tolist() == [0, 0]
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_a_graph(file)
    opened = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file)))
    expected = np.asarray(opened.convert("RGB"))
    assert expected.shape == ((30, 20, 3) if "turned" in kind else (20, 30, 3))
    np.testing.assert_array_equal(in_training(file), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_16_bits_the_upper_8_count(kind, in_training) -> None:
    file = encoded(PIL.Image.fromarray(GREY_16), kind)
    pixels = in_training(file).numpy()
    np.testing.assert_array_equal(pixels, np.repeat((GREY_16 >> 8)[..., None], 3, axis=-1))


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_pillow_turns_it(orientation, endian, in_a_graph) -> None:
    file = jpeg(orientation, endian)
    assert decode.orientation(file) == orientation
    unturned = PIL.Image.fromarray(tf.io.decode_jpeg(file).numpy())
    unturned.getexif()[0x0112] = orientation
    expected = np.asarray(PIL.ImageOps.exif_transpose(unturned))
    np.testing.assert_array_equal(in_a_graph(file), expected)


def exif_segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\x00\x00" + content


def tiff(*tags: tuple[int, int, int], count: int | None = None) -> bytes:
    """A directory of (number, type, value), which may lie about how many it has."""
    entries = b"".join(struct.pack("<HHIHxx", n, kind, 1, value) for n, kind, value in tags)
    return b"II\x2a\x00\x08\x00\x00\x00" + struct.pack("<H", count or len(tags)) + entries


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff((0x10F, 2, 7), (0x112, 3, 6)), 6),
        (tiff((0x112, 3, 6), count=65535), 6),
        (tiff((0x112, 3, 0)), 1),
        (tiff((0x112, 3, 9)), 1),
        (tiff((0x112, 2, 6)), 1),
        (tiff((0x10F, 3, 6)), 1),
        (tiff(), 1),
        (tiff((0x112, 3, 6))[:-5], 1),
        (b"XX" + tiff((0x112, 3, 6))[2:], 1),
        (b"II\x2a\x00\xff\xff\xff\xff", 1),
        (b"", 1),
    ],
)
def test_junk_in_exif_is_upright_and_never_fails(content, expected, in_a_graph) -> None:
    plain = encoded(RGB, "JPEG")
    file = plain[:2] + exif_segment(content) + plain[2:]
    assert decode.orientation(file) == expected
    assert in_a_graph(file).shape == ((30, 20, 3) if expected == 6 else (20, 30, 3))


def test_exif_is_found_after_other_segments_and_not_after_the_pixels_begin() -> None:
    plain, exif = encoded(RGB, "JPEG"), exif_segment(tiff((0x112, 3, 6)))
    comment = b"\xff\xfe\x00\x06abcd"
    assert decode.orientation(plain[:2] + comment * 3 + exif + plain[2:]) == 6
    assert decode.orientation(plain[:-2] + exif + plain[-2:]) == 1
    assert decode.orientation(plain[:2] + b"\xff\xe0\xff\xff" + exif) == 1
    assert decode.orientation(encoded(RGB, "PNG")) == 1
    assert decode.orientation(b"") == 1


@pytest.mark.parametrize("kind", [*EXACT, *ALMOST])
def test_a_file_that_ends_anywhere_is_an_error_of_tensorflow(kind, in_a_graph) -> None:
    file = (EXACT | ALMOST)[kind]
    for length in (0, 3, 15, 24, 31, len(file) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            in_a_graph(file[:length])


def test_more_pixels_than_allowed_are_not_decoded() -> None:
    file = encoded(PIL.Image.new("1", (6000, 5000)), "PNG")
    assert decode.size(file).numpy().tolist() == [5000, 6000]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode(file, max_pixels=5000 * 6000 - 1)
    assert decode.decode(EXACT["PNG"], max_pixels=600).shape == (20, 30, 3)
