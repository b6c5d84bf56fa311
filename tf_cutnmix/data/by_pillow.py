"""A picture's file as Pillow reads it, in the way in which `decode` reads the others."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps


def read(file: bytes) -> PIL.Image.Image:
    """The picture in a file, RGB, turned as its camera was held.

    Raises:
      Exception: of whatever kind Pillow has for a broken file of its kind.
    """
    with PIL.Image.open(io.BytesIO(file)) as opened:
        return _in_8_bits(PIL.ImageOps.exif_transpose(opened)).convert("RGB")


def _in_8_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """Pillow itself cuts off what is above 255; the upper 8 of 16 bits are the picture."""
    if not image.mode.startswith("I;16"):
        return image
    return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
