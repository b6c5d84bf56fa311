"""Networks that start from weights that were trained before."""

import pathlib
import warnings
from collections.abc import Sequence

import h5py
import keras
import numpy as np

from tf_cutnmix.errors import InputError, first_line
from tf_cutnmix.networks import pytorch, served
from tf_cutnmix.networks.registry import mend_normalisation


def load(networks: Sequence[keras.Model], source: str) -> None:
    """Give networks the weights of a file or an export; other classes keep a fresh classifier.

    Args:
      networks: as of `build_network`.
      source: of this network, or of what comes before its classifier, whatever comes after that
        there: a `.keras`, `.weights.h5` or `.h5` of Keras; an export, or the folder of a run that
        exported its teacher; a `.safetensors` or `.pth` of PyTorch, as of `pytorch.arrays`. A
        `.keras` or an export of as many networks gives each of them its own.

    Raises:
      InputError: it cannot be read, or its weights are another network's.
    """
    path = pathlib.Path(source).expanduser()
    try:
        if path.suffix in pytorch.SUFFIXES:
            for network in networks:
                _assign(network, pytorch.arrays(path, network, source), source)
        elif source.endswith(".weights.h5"):
            for network in networks:
                _load_weights(network, path, source)
        else:
            _assign_each(networks, _read(path, source), source)
    except InputError:
        raise
    # Keras raises whatever the parts of a file raise that is none of its own.
    except Exception as error:
        raise InputError(f"--weights_from={source} cannot be used: {first_line(error)}") from error
    for network in networks:
        mend_normalisation(network)


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


def _read(path: pathlib.Path, source: str) -> list[np.ndarray]:
    """All weights of an export or a file of Keras, in their order.

    Raises:
      InputError: a folder is no export of this package.
    """
    if path.is_dir():
        _check_folder(path, source)
        weights = served.load(source, "weights_from").model.weights
        return [variable.numpy() for variable in weights]
    if path.suffix not in (".h5", ".hdf5"):
        return keras.models.load_model(path, compile=False).get_weights()
    # Keras before version 3. Read so, a model needs no class of its layers.
    with h5py.File(path) as file:
        layers = file.get("model_weights", file)
        return [
            np.asarray(layers[layer][name])
            for layer in layers.attrs["layer_names"]
            for name in layers[layer].attrs["weight_names"]
        ]


def _check_folder(path: pathlib.Path, source: str) -> None:
    """Raise `InputError` for what others keep in folders, with what to do instead."""
    if any(path.glob("model.weights.*")):
        raise InputError(
            f"--weights_from={source} is a preset of KerasHub, a network of its own: pass "
            "--arch=module:function of a function that returns a model of "
            "keras_hub.models.Backbone.from_preset, as docs/own_model.md shows"
        )
    if (path / "saved_model.pb").is_file() and not (path / "assets" / "export.json").is_file():
        raise InputError(
            f"--weights_from={source} is a SavedModel of another program, which answers but does "
            "not train on: where its Keras model is, save that by model.save('model.keras')"
        )


def _load_weights(network: keras.Model, path: pathlib.Path, source: str) -> None:
    """Read a `.weights.h5`, without its classifier where that is another one.

    Raises:
      InputError: it is of another network.
    """
    with warnings.catch_warnings():
        # Keras looks for each layer in two lists, of which files have one.
        warnings.filterwarnings("ignore", "Skipping nested container")
        try:
            network.load_weights(path)
        except ValueError:
            try:
                _trunk(network).load_weights(path)
            except ValueError as error:
                raise _other(network, source) from error


def _assign_each(
    networks: Sequence[keras.Model], arrays: Sequence[np.ndarray], source: str
) -> None:
    """Give each network its own where there are as many arrays as all have, else the same."""
    found = [array for array in arrays if np.issubdtype(array.dtype, np.floating)]
    ends = np.cumsum([len(_floats(network)) for network in networks])
    own = np.split(np.arange(len(found)), ends[:-1])
    for network, numbers in zip(networks, own, strict=True):
        _assign(network, [found[i] for i in numbers] if len(found) == ends[-1] else found, source)


def _assign(network: keras.Model, found: Sequence[np.ndarray], source: str) -> None:
    """Set all weights, or all below the classifier where what follows there is another one.

    Raises:
      InputError: they are of another network.
    """
    chosen, below = _floats(network), _floats(_trunk(network))
    # Fewer than two networks have: what follows is another classifier, of any layers.
    if _shapes(found) != _shapes(chosen) and len(found) < len(chosen) + len(below):
        chosen, found = below, found[: len(below)]
    if _shapes(found) != _shapes(chosen):
        raise _other(network, source)
    for variable, array in zip(chosen, found, strict=True):
        variable.assign(array)


def _other(network: keras.Model, source: str) -> InputError:
    return InputError(
        f"--weights_from={source} holds arrays that are not those of {network.name}, which has "
        f"{len(network.weights)}: name weights of the same network"
    )


def _floats(network: keras.Model) -> list[keras.Variable]:
    return [v for v in network.weights if keras.backend.is_float_dtype(v.dtype)]


def _shapes(arrays: Sequence[np.ndarray | keras.Variable]) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in arrays]
