"""A picture's file as Pillow reads it, in the way in which `decode` reads the others."""

import functools
import io
import pathlib
from typing import BinaryIO, Literal

import numpy as np
import PIL.Image
import PIL.ImageOps

from tf_cutnmix.errors import InputError, RunError, first_line

RAW_ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq"),
    *(".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
    *(".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II\x2a\x00": "little", b"MM\x00\x2a": "big"}
_CANON = b"CR"
_SUBFILE, _DNG_VERSION = 0x00FE, 0xC612
_BITS_PER_SAMPLE = 258


def read(file: bytes) -> PIL.Image.Image:
    """The picture in a file, RGB, turned as its camera was held.

    Raises:
      InputError: it is of a kind that is not taken: raw, or of numbers that may mean anything.
      RunError: it is no whole picture.
    """
    if is_raw(io.BytesIO(file)):
        raise InputError("it is a camera's raw file: turn it into JPEG")
    try:
        with PIL.Image.open(io.BytesIO(file)) as opened:
            return _in_8_bits(opened).convert("RGB")
    except InputError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise RunError("it is no picture, or of an unknown kind") from error
    except Exception as error:
        # What Pillow raises for a broken file depends on the kind of the file.
        raise RunError(first_line(error)) from error


def is_raw(file: BinaryIO, name: str = "") -> bool:
    """Whether a file, at its start, is a camera's raw one: by its name, or by its content.

    These begin as TIFF files do, and what they hold first is a thumbnail.
    A file is one by its content where it says that it is DNG or Canon's, or that its first picture
    is a smaller copy of another one.
    """
    header = file.read(10)
    order = _ORDERS.get(header[:4])
    if not order:
        return False
    if pathlib.PurePath(name).suffix.lower() in RAW_ENDINGS or header[8:] == _CANON:
        return True

    number = functools.partial(int.from_bytes, byteorder=order)
    file.seek(number(header[4:8]))
    tags = [file.read(12) for _ in range(number(file.read(2)))]
    values = {number(tag[:2]): number(tag[8:]) for tag in tags}
    return _DNG_VERSION in values or values.get(_SUBFILE, 0) % 2 == 1


def _in_8_bits(opened: PIL.Image.Image) -> PIL.Image.Image:
    """The upper 8 of a picture's bits: Pillow itself cuts off what is above 255."""
    turned = PIL.ImageOps.exif_transpose(opened)
    # Of PGM files Pillow makes 16 bits whatever they state.
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PPM"):
        more = _bits(opened) - 8
        return PIL.Image.fromarray((np.asarray(turned) >> more).astype(np.uint8))
    if opened.mode in ("I", "F"):
        raise InputError(
            "its pixels are signed, of 32 bits or fractions, and it does not say which of them is "
            "white: turn it into 8 or 16 bits"
        )
    return turned


def _bits(opened: PIL.Image.Image) -> int:
    """How many bits deep a deep picture is: TIFF files state it."""
    return getattr(opened, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
