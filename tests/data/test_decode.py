"""Files of every common kind, in a graph and eagerly, against Pillow."""

import io
import struct

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from tests.data.pictures import noise, write_class
from tf_cutnmix import data
from tf_cutnmix.data import decode, pictures
from tf_cutnmix.errors import InputError, RunError

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
def orientation() -> tf.types.experimental.GenericFunction:
    specification = [tf.TensorSpec([], tf.string)]
    return tf.function(decode.orientation, input_signature=specification, autograph=False)


def exif_segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\x00\x00" + content


def tiff(*tags: tuple[int, int, int], count: int | None = None, big: bool = False) -> bytes:
    """A directory of (number, type, value), which may lie about how many it has."""
    order, start = (">", b"MM\x00\x2a") if big else ("<", b"II\x2a\x00")
    forms = {4: "I", 9: "i"}
    entries = b"".join(
        struct.pack(f"{order}HHI{forms.get(kind, 'Hxx')}", n, kind, 1, value)
        for n, kind, value in tags
    )
    return start + struct.pack(f"{order}IH", 8, count or len(tags)) + entries


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
# Its first segment, of 16 bytes, says that Adobe wrote it.
ALMOST["JPEG, CMYK, unsigned"] = b"\xff\xd8" + ALMOST["JPEG, CMYK"][18:]
# The sign of its height says so.
EXACT["BMP, first row first"] = EXACT["BMP"][:22] + struct.pack("<i", -20) + EXACT["BMP"][26:]
# Raw files of cameras: a smaller copy of another picture, a DNG file, one of Canon's.
THUMBNAIL = encoded(RGB, "TIFF", tiffinfo={0xFE: 1})
DNG = encoded(RGB, "TIFF", tiffinfo={0xC612: b"\x01\x04\x00\x00"})
_GREY = tiff(*((n, 3, v) for n, v in {256: 30, 257: 20, 258: 8, 259: 1, 262: 1, 273: 99}.items()))
CANON = b"II\x2a\x00\x10\x00\x00\x00CR\x02\x00" + bytes(4) + _GREY[8:] + bytes(700)
BY_PILLOW = {
    "TIFF": encoded(RGB, "TIFF"),
    "TIFF, turned": encoded(RGB, "TIFF", exif=PIL.Image.open(io.BytesIO(jpeg(6))).getexif()),
    "BMP, palette": encoded(RGB.convert("P"), "BMP"),
    "BMP, black and white": encoded(RGB.convert("1"), "BMP"),
    "WebP, animated": encoded(RGB, "WEBP", lossless=True, **ANIMATED),
}


@pytest.mark.parametrize("kind", [*EXACT, *ALMOST])
def test_a_file_has_the_pixels_that_pillow_sees(kind, in_a_graph) -> None:
    file = (EXACT | ALMOST)[kind]
    expected = np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))
    pixels = in_a_graph(file).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape == (*decode.size(file), 3)
    # JPEG leaves the last bits to who decodes it.
    assert np.abs(pixels.astype(int) - expected).max() <= (4 if kind in ALMOST else 0)
    np.testing.assert_array_equal(pictures.read(file), pixels)


@pytest.mark.parametrize("kind", BY_PILLOW)
def test_what_tensorflow_does_not_decode_right_is_left_to_pillow(kind, in_a_graph) -> None:
    file = BY_PILLOW[kind]
    assert decode.size(file).numpy().tolist() == [0, 0]
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_a_graph(file)
    opened = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file)))
    expected = np.asarray(opened.convert("RGB"))
    assert expected.shape == ((30, 20, 3) if "turned" in kind else (20, 30, 3))
    np.testing.assert_array_equal(pictures.read(file), expected)


def pgm(levels: np.ndarray, white: int) -> bytes:
    return b"P5 30 20 %d\n" % white + levels.astype(">u2").tobytes()


def tiff_of_12_bits(levels: np.ndarray) -> bytes:
    """Two levels in three bytes, 30 in 45, after eight tags."""
    nibbles = np.stack([levels >> 8, levels >> 4, levels], axis=-1) % 16
    packed = (nibbles.reshape(-1, 2) @ [16, 1]).astype(np.uint8).tobytes()
    tags = [(256, 3, 30), (257, 3, 20), (258, 3, 12), (259, 3, 1), (262, 3, 1)]
    return tiff(*tags, (273, 4, 110), (278, 3, 20), (279, 4, 900)) + bytes(4) + packed


@pytest.mark.parametrize(
    ("file", "levels"),
    [
        (encoded(PIL.Image.fromarray(GREY_16), "PNG"), GREY_16),
        (encoded(PIL.Image.fromarray(GREY_16), "TIFF"), GREY_16),
        (encoded(PIL.Image.fromarray(GREY_16), "JPEG2000"), GREY_16),
        (pgm(GREY_16, 65535), GREY_16),
        (pgm(GREY_16 >> 4, 4095), np.round((GREY_16 >> 4) * (65535 / 4095)).astype(int)),
        (tiff_of_12_bits(GREY_16 >> 4), GREY_16),
    ],
    ids=["PNG", "TIFF", "JPEG 2000", "PGM", "PGM of 12 bits", "TIFF of 12 bits"],
)
def test_of_more_than_8_bits_the_upper_8_count(file, levels) -> None:
    expected = np.repeat((levels >> 8)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(pictures.read(file), expected)
    np.testing.assert_array_equal(pictures.by_pillow(file), expected)


DEEP = {
    "TIFF, fractions to 1": encoded(PIL.Image.fromarray((GREY_16 / 65535).astype("f4")), "TIFF"),
    "TIFF, fractions": encoded(PIL.Image.fromarray(GREY_16.astype("f4")), "TIFF"),
    "TIFF, 32 bits": encoded(PIL.Image.fromarray(GREY_16.astype("i4")), "TIFF"),
    "PFM": encoded(PIL.Image.fromarray((GREY_16 / 65535).astype("f4")), "PPM"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_pixels_that_may_mean_anything_are_refused(kind) -> None:
    with pytest.raises(InputError, match="which of them is white: turn it into 8 or 16 bits"):
        pictures.read(DEEP[kind])


def test_all_pictures_of_a_kind_that_is_not_taken_are_named(tmp_path) -> None:
    write_class(tmp_path / "a", range(1))
    for name in ("1", "2"):
        (tmp_path / "b" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "b" / name).with_suffix(".tif").write_bytes(DEEP["TIFF, 32 bits"])
    with pytest.raises(InputError) as caught:
        data.load(str(tmp_path), "train")
    assert str(caught.value).startswith(
        f"2 pictures of {tmp_path} cannot be read: {tmp_path}/b/1.tif, {tmp_path}/b/2.tif: "
        f"{tmp_path}/b/1.tif cannot be read: its pixels are signed, of 32 bits or fractions"
    )


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_pillow_turns_it(orientation, endian, in_a_graph) -> None:
    file = jpeg(orientation, endian)
    assert decode.orientation(file) == orientation
    unturned = PIL.Image.fromarray(tf.io.decode_jpeg(file).numpy())
    unturned.getexif()[0x0112] = orientation
    expected = np.asarray(PIL.ImageOps.exif_transpose(unturned))
    np.testing.assert_array_equal(in_a_graph(file), expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff((0x10F, 2, 7), (0x112, 3, 6)), 6),
        (tiff((0x112, 3, 6), count=65535), 6),
        (tiff((0x112, 4, 2**16 + 6)), 1),
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
def test_junk_in_exif_is_upright_and_never_fails(
    content, expected, in_a_graph, orientation
) -> None:
    plain = encoded(RGB, "JPEG")
    file = plain[:2] + exif_segment(content) + plain[2:]
    assert orientation(file) == expected
    assert in_a_graph(file).shape == ((30, 20, 3) if expected == 6 else (20, 30, 3))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tags", [[(3, 3), (3, 6)], [(4, 6)], [(8, 6)], [(9, 6)], [(4, 65542)]])
def test_an_orientation_of_any_whole_type_is_taken_as_pillow_takes_it(tags, big) -> None:
    plain, numbered = encoded(RGB, "JPEG"), [(0x112, *tag) for tag in tags]
    content = tiff(*numbered, (0x10F, 3, 7), big=big) + bytes(4)
    file = plain[:2] + exif_segment(content) + plain[2:]
    turned = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file)))
    assert turned.size == ((20, 30) if tags[0][1] == 6 else (30, 20))
    assert decode.decode(file).shape == (*turned.size[::-1], 3)


def test_exif_is_found_after_other_segments_and_not_after_the_pixels_begin(orientation) -> None:
    plain, exif = encoded(RGB, "JPEG"), exif_segment(tiff((0x112, 3, 6)))
    comment = b"\xff\xfe\x00\x06abcd"
    assert orientation(plain[:2] + comment * 3 + exif + plain[2:]) == 6
    for between in (b"\xff", b"\xff" * 1000, b"junk", bytes(70), b"\xff\x00"):
        file = plain[:2] + comment + between + exif + plain[2:]
        assert PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file))).size == (20, 30)
        assert orientation(file) == 6
    for file in (
        b"\xff\xd8" + b"\xff" * 100,
        plain[:-2] + exif + plain[-2:],
        plain[:2] + b"\xff\xe0\xff\xff" + exif,
        encoded(RGB, "PNG"),
        b"",
    ):
        assert orientation(file) == 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "GIF"])
def test_half_a_picture_is_none_to_pillow_too(kind) -> None:
    content = encoded(RGB, kind)
    for part in (content[: len(content) // 2], content[:9], b"", b"no picture at all"):
        with pytest.raises(RunError) as caught:
            pictures.by_pillow(part)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [*EXACT, *ALMOST])
def test_a_file_that_ends_anywhere_is_an_error_of_tensorflow(kind, in_a_graph) -> None:
    file = (EXACT | ALMOST)[kind]
    for length in (0, 3, 24, len(file) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            in_a_graph(file[:length])


def test_more_pixels_than_allowed_are_not_decoded() -> None:
    file = encoded(PIL.Image.new("1", (6000, 5000)), "PNG")
    assert decode.size(file).numpy().tolist() == [5000, 6000]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode(file, max_pixels=5000 * 6000 - 1)
    assert decode.decode(EXACT["PNG"], max_pixels=600).shape == (20, 30, 3)
