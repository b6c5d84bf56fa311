"""From what a user names to files of pictures, and what Pillow sees in one."""

import glob
import io
import pathlib
import warnings
from collections.abc import Iterable

import numpy as np
from PIL import Image

from tf_cutnmix.data import by_pillow, layout
from tf_cutnmix.errors import InputError, RunError

_THUMBNAIL = 160


def find(places: Iterable[str]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The files in `places`, and those of its folders that are no pictures.

    Args:
      places: files; folders, of which all pictures at any depth are taken that are not hidden;
        patterns such as "photos/**/*.jpg".

    Returns:
      Files, each once, and what is left out of the folders, each once.

    Raises:
      InputError: a place is not there or holds no picture.
    """
    files: dict[pathlib.Path, None] = {}
    left_out: dict[pathlib.Path, None] = {}
    for place in places:
        path = pathlib.Path(place)
        if path.is_dir():
            found, others = layout.pictures_below(path)
            left_out |= dict.fromkeys(others)
            if not found:
                raise InputError(f"{place!r} holds no pictures: name another folder, or files")
        elif path.exists():
            found = [path]
        else:
            matches = sorted(map(pathlib.Path, glob.glob(place, recursive=True)))
            found = [match for match in matches if match.is_file()]
            if not found and glob.has_magic(place):
                raise InputError(f"{place!r}: no file fits this pattern")
            if not found:
                raise InputError(f"{place!r}: there is no such file or folder")
        files |= dict.fromkeys(found)
    return list(files), [file for file in left_out if file not in files]


def decode(content: bytes) -> np.ndarray:
    """A picture as `[H, W, 3]` uint8, turned as the camera was held.

    Raises:
      RunError: it is no whole picture, or is larger than any picture should be.
    """
    return np.asarray(_open(content))


def thumbnail(path: pathlib.Path) -> bytes:
    """A picture of at most 160 pixels a side, as a JPEG file.

    Raises:
      RunError: Pillow cannot read the file.
    """
    try:
        picture = _open(path.read_bytes())
    except OSError as error:
        raise RunError(str(error.strerror)) from error
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def _open(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow only warns of pictures that are up to twice as large as it allows.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return by_pillow.read(content)
