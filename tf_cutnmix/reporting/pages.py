"""Pages: one file that loads nothing, whatever names others chose for what is in it."""

import base64
from typing import Any

import jinja2

from tf_cutnmix import escaping


def _data_url(content: bytes, kind: str) -> str:
    """A picture as a URL that holds it; kind: "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


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
