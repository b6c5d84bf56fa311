"""A checkpoint of PyTorch as the weights of one of our networks that computes the same."""

import importlib.util
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np

from tf_cutnmix.errors import InputError

SUFFIXES = (".safetensors", ".pth", ".pt")

# For each kind of layer, what PyTorch calls its weights.
_PARTS = {
    "Conv2D": {"kernel": "weight", "bias": "bias"},
    "Dense": {"kernel": "weight", "bias": "bias"},
    "BatchNormalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
}

Module = dict[str, np.ndarray]


class Layout(NamedTuple):
    """How code of PyTorch names the modules of a network.

    Attributes:
      networks: a regular expression of our names.
      modules: one of the names of all modules that have weights.
      renamed: replacements by a regular expression, after which the names of the modules of a kind
        sort, numbers by their value, in the order in which the network's layers come.
    """

    networks: str
    modules: str
    renamed: Mapping[str, str] = {}


# Names and shapes tell no strides: networks whose PyTorch code has others than ours are not here,
# such as torchvision's ResNet50 and MobileNetV2.
LAYOUTS = (
    # akamaster/pytorch_resnet_cifar10, chenyaofo/pytorch-cifar-models
    Layout(
        r"resnet\d+(_projection)?",
        r"(conv|bn)1|layer[123]\.\d+\.((conv|bn)[12]|(downsample|shortcut)\.[01])|fc|linear",
    ),
    # xternalz/WideResNet-pytorch
    Layout(
        r"wrn\d+_\d+",
        r"(conv|bn)1|block[123]\.layer\.\d+\.((conv|bn)[12]|convShortcut)|fc",
        {"^conv1$": "a", "^bn1$": "z"},
    ),
    # kuangliu/pytorch-cifar, chenyaofo/pytorch-cifar-models
    Layout(r"vgg\d+(_linear)?", r"features\.\d+|classifier(\.\d+)?"),
    # torchvision and timm; older files name "norm.1" what is "norm1" now
    Layout(
        r"keras_densenet\d+",
        r"features\.(conv0|norm[05]|transition[123]\.(conv|norm)|"
        r"denseblock[1234]\.denselayer\d+\.(conv|norm)\.?[12])|classifier",
        {r"\.norm0$": ".a", r"\.(denseblock|transition)(\d)": r".d\2\1"},
    ),
)


def arrays(path: pathlib.Path, network: keras.Model, source: str) -> list[np.ndarray]:
    """The weights of a checkpoint, in the order and the shapes of `network.weights`.

    The classifier's may be of other classes, or missing. A network of `build_network` normalises
    pixels by its own mean and deviation, whatever the checkpoint was trained with.

    Args:
      path: a `.safetensors`, or a `.pth` or `.pt`, which PyTorch reads.
      network: of one of our families, or of `keras.applications`.
      source: what the file is called in errors.

    Raises:
      InputError: no code of PyTorch is known to compute the same as the network on images of its
        size, a module is not the network's, or what reads the file is not installed.
    """
    layout = next((each for each in LAYOUTS if re.fullmatch(each.networks, network.name)), None)
    if layout is None:
        raise InputError(
            f"--weights_from={source}: no network of PyTorch is known to compute what "
            f"{network.name} does: pass weights of Keras, or --arch=resnet..., wrn..., vgg... or "
            "keras_densenet..."
        )
    _check_padding(network, source)
    modules = _modules(_read(path, source), layout, f"--weights_from={source}", network.name)
    found: list[np.ndarray] = []
    for layer in network.layers:
        if layer.weights:
            name, module = next(modules[type(layer).__name__], ("", {}))
            found += _of_layer(layer, name, module, f"--weights_from={source}", network.name)
    for name, _ in itertools.chain(*modules.values()):
        raise InputError(f"--weights_from={source} has {name} besides all that {network.name} has")
    return found


def _read(path: pathlib.Path, source: str) -> dict[str, np.ndarray]:
    """The arrays of a file by their names.

    Raises:
      InputError: the package that reads it is not installed.
    """
    if path.suffix == ".safetensors":
        if importlib.util.find_spec("safetensors") is None:
            raise InputError(
                f"--weights_from={source} needs safetensors, not installed here: "
                "pip install 'tf_cutnmix[pytorch]'"
            )
        from safetensors.numpy import load_file

        return dict(load_file(path))
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"--weights_from={source} needs PyTorch, not installed here: where it is, read the "
            "file by torch.load(path, weights_only=True), write its tensors by "
            "safetensors.torch.save_file(tensors, 'weights.safetensors'), and pass that"
        )
    import torch

    read = torch.load(path, map_location="cpu", weights_only=True)
    # What is saved along with the weights, such as the epoch, stands beside their dictionary.
    state = next((value for value in read.values() if isinstance(value, Mapping)), read)
    return {name: tensor.numpy() for name, tensor in state.items()}


def _modules(
    state: Mapping[str, np.ndarray], layout: Layout, source: str, network: str
) -> dict[str, Iterator[tuple[str, Module]]]:
    """The modules for each kind of layer, in the layers' order.

    Raises:
      InputError: the layout has no module of a name.
    """
    modules: dict[str, Module] = {}
    for name, array in state.items():
        # DataParallel puts "module." before all names.
        module, _, part = name.removeprefix("module.").rpartition(".")
        if not re.fullmatch(layout.modules, module):
            raise InputError(
                f"{source} has {name}, which no network of PyTorch has that is known as {network}"
            )
        if part != "num_batches_tracked":
            modules.setdefault(module, {})[part] = array

    def place(module: str) -> list[tuple[str, int]]:
        for pattern, replacement in layout.renamed.items():
            module = re.sub(pattern, replacement, module)
        return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", module)]

    ordered = [(name, modules[name]) for name in sorted(modules, key=place)]
    return {kind: iter([each for each in ordered if _kind(each[1]) == kind]) for kind in _PARTS}


def _kind(module: Module) -> str:
    if "running_mean" in module:
        return "BatchNormalization"
    return "Dense" if "weight" in module and module["weight"].ndim == 2 else "Conv2D"


def _of_layer(
    layer: keras.layers.Layer, name: str, module: Module, source: str, network: str
) -> list[np.ndarray]:
    """A module's arrays as a layer has them; if it is the classifier, of any classes or none.

    Raises:
      InputError: the module is no such layer, or missing.
    """
    classifier = layer.name == "logits"
    if classifier and not name:
        return []
    parts = [_PARTS[type(layer).__name__][variable.name] for variable in layer.weights]
    if set(parts) != set(module):
        raise InputError(
            f"{source}: {name or 'nothing'} stands where {network} has {layer.name}: it holds "
            f"{', '.join(module) or 'nothing'} in place of {', '.join(parts)}"
        )
    turned = [_turned(module[part]) for part in parts]
    for variable, array in zip(layer.weights, turned, strict=True):
        if array.shape != tuple(variable.shape) and not classifier:
            raise InputError(
                f"{source}: {name} is of {list(array.shape)} where {network} has "
                f"{list(variable.shape)}: name a checkpoint of the same network"
            )
    return turned


def _turned(array: np.ndarray) -> np.ndarray:
    """Kernels of PyTorch, `[out, in, h, w]` or `[out, in]`, as Keras has them."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _check_padding(network: keras.Model, source: str) -> None:
    """Raise `InputError` for a size of images at which strides meet other pixels than in PyTorch.

    Where TensorFlow pads by an odd number of rows, more are below than above; PyTorch pads both
    sides alike, and leaves out what no whole window covers.
    """
    windows: dict[int, set[int]] = {}  # of each size of maps
    for layer in network.layers:
        if getattr(layer, "padding", "") == "same" and layer.strides[0] == 2:
            size = layer.kernel_size if hasattr(layer, "kernel_size") else layer.pool_size
            windows.setdefault(layer.input.shape[1], set()).add(size[0])

    def alike(side: int) -> bool:
        for sizes in windows.values():
            half = -(-side // 2)
            if any(
                (2 * (half - 1) + size - side) // 2 != (size - 1) // 2
                or (side + 2 * ((size - 1) // 2) - size) // 2 + 1 != half
                for size in sizes
                if size > 1
            ):
                return False
            side = half
        return True

    sides = network.input_shape[1:3]
    if not all(map(alike, sides)):
        size = next(filter(alike, itertools.count(max(sides))))
        raise InputError(
            f"--weights_from={source}: at {sides[1]}x{sides[0]} pixels {network.name} pads its "
            f"maps otherwise than PyTorch's, and would answer otherwise: pass --image_size={size}"
        )
