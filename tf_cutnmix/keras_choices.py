"""What Keras is told in its own places, checked before it is imported."""

import json
import os
import pathlib
import sys

from tf_cutnmix.errors import InputError

_NEEDED = {"backend": "tensorflow", "image_data_format": "channels_last"}


def check() -> None:
    """Raise `InputError` if Keras computes with another backend, or has channels first."""
    for name, needed in _NEEDED.items():
        place, chosen = _chosen(name)
        if chosen not in (None, needed):
            raise InputError(
                f"{place} has {chosen!r} for Keras' {name}, and tf_cutnmix needs {needed!r}: "
                "change it there"
            )


def _chosen(name: str) -> tuple[str, object]:
    """Where a choice is made, and what is chosen; None for Keras' own default."""
    if keras := sys.modules.get("keras"):
        return f"keras.config.{name}()", getattr(keras.config, name)()
    if name == "backend" and (backend := os.environ.get("KERAS_BACKEND")):
        return "KERAS_BACKEND", backend
    file = _home() / "keras.json"
    try:
        choices = json.loads(file.read_text())
    except (OSError, ValueError):  # Keras reads past it, too
        return str(file), None
    return str(file), choices.get(name) if isinstance(choices, dict) else choices


def _home() -> pathlib.Path:
    """Where Keras keeps its file."""
    home = pathlib.Path("~").expanduser()
    default = home if os.access(home, os.W_OK) else pathlib.Path("/tmp")
    return pathlib.Path(os.environ.get("KERAS_HOME", default / ".keras")).expanduser()
