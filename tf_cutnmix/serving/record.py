"""What an export says of itself: `assets/export.json`."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def write(savedmodel: pathlib.Path, networks: Sequence[keras.Model], figures: Mapping) -> None:
    """Write the record into a SavedModel's folder; `figures` are those of its formats."""
    height, width, channels = networks[0].input_shape[1:]
    content = {
        "networks": [network.name for network in networks],
        "parameters": sum(network.count_params() for network in networks),
        "input": {"height": height, "width": width, "channels": channels, "pixels": [0, 255]},
        "normalisation": {
            "inside_the_network": True,
            "of_each": [_normalisation(network) for network in networks],
        },
        "formats": dict(figures),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    text = json.dumps(content, indent=2) + "\n"
    (savedmodel / "assets" / "export.json").write_text(text)


def read(savedmodel: pathlib.Path) -> dict[str, Any]:
    """The record of an export."""
    return json.loads((savedmodel / "assets" / "export.json").read_text())


def lines(savedmodel: pathlib.Path) -> list[str]:
    """A line for each format of an export, if it has further ones: size and accuracy."""
    formats = read(savedmodel)["formats"]
    if len(formats) == 1:
        return []
    return [
        f"{savedmodel}: {name}, {one['bytes'] / 1e3:,.0f} kB"
        + (f", accuracy {one['accuracy']:.2%}" if "accuracy" in one else "")
        for name, one in formats.items()
    ]


def _normalisation(network: keras.Model) -> dict[str, list[float]] | None:
    """Mean and deviation in pixel values; None where a network has its own way."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance = np.ravel(layer.mean), np.ravel(layer.variance)
            return {"mean": mean.tolist(), "deviation": np.sqrt(variance).tolist()}
    return None
