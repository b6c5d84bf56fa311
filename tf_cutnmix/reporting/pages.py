"""Pages: one file that loads nothing, whatever names others chose for what is in it."""

import base64
import io
from typing import Any

import jinja2
import matplotlib
import numpy as np
from PIL import Image

from tf_cutnmix import escaping

# Of a heat map where it is hottest: how much of the picture below it covers.
_COVERED = 0.55


def _data_url(content: bytes, kind: str) -> str:
    """A picture as a URL that holds it; kind: "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png(pixels: np.ndarray) -> bytes:
    """A picture `[H, W, 3 or 4]` uint8 as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def heat(levels: np.ndarray) -> bytes:
    """A heat map `[H, W]` uint8 as a PNG file to lay over its picture: clear where it is cold."""
    parts = levels / 255
    shades = matplotlib.colormaps["inferno"](0.4 + 0.6 * parts)
    shades[..., 3] = _COVERED * parts
    return png((255 * shades).astype(np.uint8))


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("tf_cutnmix.reporting"),
    autoescape=jinja2.select_autoescape(),
    # Text in one line of what can be printed; markup and numbers as they are.
    finalize=lambda value: escaping.one_line(value) if type(value) is str else value,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"markdown": escaping.markdown, "data_url": _data_url}


def render(template: str, **content: Any) -> str:
    """A file of `templates/`, filled in; all text stands there in one line, escaped for HTML."""
    return _TEMPLATES.get_template(template).render(content)
