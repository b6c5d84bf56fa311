"""Raw files of cameras: they begin as TIFF files do, and what they hold first is a thumbnail."""

import functools
import pathlib
from typing import BinaryIO, Literal

ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq"),
    *(".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
    *(".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II\x2a\x00": "little", b"MM\x00\x2a": "big"}
_CANON = b"CR"
_SUBFILE, _DNG_VERSION = 0x00FE, 0xC612


def is_raw(file: BinaryIO, name: str = "") -> bool:
    """Whether a file, at its start, is a TIFF file by a camera: by its name, or by its content.

    It is by its content where it says that it is DNG or Canon's, or that its first picture is a
    smaller copy of another one.
    """
    header = file.read(10)
    order = _ORDERS.get(header[:4])
    if not order:
        return False
    if pathlib.PurePath(name).suffix.lower() in ENDINGS or header[8:] == _CANON:
        return True

    number = functools.partial(int.from_bytes, byteorder=order)
    file.seek(number(header[4:8]))
    tags = [file.read(12) for _ in range(number(file.read(2)))]
    values = {number(tag[:2]): number(tag[8:]) for tag in tags}
    return _DNG_VERSION in values or values.get(_SUBFILE, 0) % 2 == 1
