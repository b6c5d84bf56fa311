"""Networks that start from weights that were trained before."""

import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from tf_cutnmix.errors import InputError, first_line
from tf_cutnmix.networks import served


def load(networks: Sequence[keras.Model], source: str) -> None:
    """Give networks the weights of a file or an export; other classes keep a fresh classifier.

    Args:
      networks: as of `build_network`.
      source: a `.weights.h5` of such a network; or a `.keras` or an export, or the folder of a
        run that exported its teacher, of this network or of what comes before its classifier.
        An export of as many networks gives each of them its own.

    Raises:
      InputError: it cannot be read, or its weights are another network's.
    """
    path = pathlib.Path(source).expanduser()
    try:
        if source.endswith(".weights.h5"):
            for network in networks:
                network.load_weights(path)
            return
        if path.is_dir():
            weights = served.load(source, "weights_from").model.weights
            found = [variable.numpy() for variable in weights]
        else:
            found = keras.models.load_model(path).get_weights()
    except InputError:
        raise
    # Keras raises whatever the parts of a file raise that is none of its own.
    except Exception as error:
        raise InputError(f"--weights_from={source} cannot be used: {first_line(error)}") from error
    found = [array for array in found if np.issubdtype(array.dtype, np.floating)]
    ends = np.cumsum([len(_floats(network)) for network in networks])
    own = np.split(np.arange(len(found)), ends[:-1])
    for network, numbers in zip(networks, own, strict=True):
        _assign(network, [found[i] for i in numbers] if len(found) == ends[-1] else found, source)


def freeze(networks: Sequence[keras.Model], part: str) -> None:
    """Keep a part of some networks as it is.

    Args:
      networks: as of `build_network`.
      part: "backbone", all but the classifier, or "batchnorm", the layers of BatchNormalization;
        either way these use the statistics that they have.
    """
    for network in networks:
        for layer in _trunk(network).layers if part == "backbone" else network.layers:
            if part == "backbone" or isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


def backbone(network: keras.Model) -> list[keras.Variable]:
    """All variables of a network but its classifier's."""
    return _trunk(network).variables


def _trunk(network: keras.Model) -> keras.Model:
    """What comes before the classifier, with the same layers."""
    return keras.Model(network.inputs, network.output["features"])


def _assign(network: keras.Model, found: Sequence[np.ndarray], source: str) -> None:
    """Set all weights, or all but the classifier's where that is another one or missing."""
    chosen, below = _floats(network), _floats(_trunk(network))
    if len(found) == len(chosen) and _shapes(found) != _shapes(chosen):
        kept = {id(variable) for variable in below}
        found = [array for array, v in zip(found, chosen, strict=True) if id(v) in kept]
    if len(found) != len(chosen):
        chosen = below
    if _shapes(found) != _shapes(chosen):
        raise InputError(
            f"--weights_from={source} holds {len(found)} arrays that are not those of "
            f"{network.name}, which has {len(network.weights)}: name weights of the same network"
        )
    for variable, array in zip(chosen, found, strict=True):
        variable.assign(array)


def _floats(network: keras.Model) -> list[keras.Variable]:
    return [v for v in network.weights if keras.backend.is_float_dtype(v.dtype)]


def _shapes(arrays: Sequence[np.ndarray | keras.Variable]) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in arrays]
