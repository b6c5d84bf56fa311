"""Checkpoints of PyTorch answer in our networks as they do there."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import pixels
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import pretrained

numpy_files = pytest.importorskip("safetensors.numpy")
State = dict[str, np.ndarray]
STATISTICS = {"mean": [125.0, 123.0, 114.0], "deviation": [63.0, 62.0, 66.0]}


def normalised(images: np.ndarray) -> np.ndarray:
    return ((images - np.array(STATISTICS["mean"])) / STATISTICS["deviation"]).astype("float32")


# Without PyTorch: its ResNet by the names of its arrays, in operations that are told their padding


def resnet8_state(classes: int = 10, prefix: str = "") -> State:
    """Of `resnet8_projection`, as chenyaofo/pytorch-cifar-models names it."""
    rng = np.random.default_rng(0)
    state: State = {}

    def convolution(name: str, normalisation: str, filters: int, channels: int, size: int) -> None:
        shape = (filters, channels, size, size)
        state[f"{name}.weight"] = rng.normal(0, (2 / (channels * size**2)) ** 0.5, shape)
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5)):
            state[f"{normalisation}.{part}"] = rng.uniform(low, low + 1, filters)
        state[f"{normalisation}.running_var"] = rng.uniform(0.5, 1.5, filters)
        state[f"{normalisation}.num_batches_tracked"] = np.array(7)

    convolution("conv1", "bn1", 16, 3, 3)
    for stage, (filters, channels) in enumerate(((16, 16), (32, 16), (64, 32)), start=1):
        block = f"layer{stage}.0."
        convolution(f"{block}conv1", f"{block}bn1", filters, channels, 3)
        convolution(f"{block}conv2", f"{block}bn2", filters, filters, 3)
        if stage > 1:
            convolution(f"{block}downsample.0", f"{block}downsample.1", filters, channels, 1)
    state["fc.weight"] = rng.normal(0, 0.2, (classes, 64))
    state["fc.bias"] = rng.normal(0, 0.2, classes)
    return {
        prefix + name: array.astype("int64" if array.ndim == 0 else "float32")
        for name, array in state.items()
    }


def resnet8_logits(state: State, images: np.ndarray) -> np.ndarray:
    def convolved(x, name, normalisation, strides=1):
        kernel = state[f"{name}.weight"].transpose(2, 3, 1, 0)
        pad = [kernel.shape[0] // 2] * 2
        x = tf.nn.conv2d(x, kernel, strides, [[0, 0], pad, pad, [0, 0]])
        of = {part: state[f"{normalisation}.{part}"] for part in ("weight", "bias")}
        mean, variance = (state[f"{normalisation}.running_{part}"] for part in ("mean", "var"))
        return (x - mean) / np.sqrt(variance + 1e-5) * of["weight"] + of["bias"]

    x = tf.nn.relu(convolved(normalised(images), "conv1", "bn1"))
    for stage in (1, 2, 3):
        block, strides = f"layer{stage}.0.", 1 if stage == 1 else 2
        inside = tf.nn.relu(convolved(x, f"{block}conv1", f"{block}bn1", strides))
        inside = convolved(inside, f"{block}conv2", f"{block}bn2")
        if stage > 1:
            x = convolved(x, f"{block}downsample.0", f"{block}downsample.1", strides)
        x = tf.nn.relu(x + inside)
    return np.mean(x, axis=(1, 2)) @ state["fc.weight"].T + state["fc.bias"]


def network(name: str = "resnet8_projection", size: int = 9):
    return build_network(name, (size, size, 3), 10, **STATISTICS)


def file_of(state: State, folder: pathlib.Path) -> str:
    numpy_files.save_file(
        {name: np.ascontiguousarray(array) for name, array in state.items()},
        folder / "weights.safetensors",
    )
    return str(folder / "weights.safetensors")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_answers_as_the_network_it_is_of(prefix, tmp_path):
    networks = [network(), network()]
    pretrained.load(networks, file_of(resnet8_state(prefix=prefix), tmp_path))
    images = pixels((4, 9, 9, 3))
    expected = resnet8_logits(resnet8_state(), images)
    for each in networks:
        np.testing.assert_allclose(each(images)["logits"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [3, 0])
def test_a_classifier_of_other_classes_stays_fresh(classes, tmp_path):
    state = resnet8_state(classes=classes or 10)
    if not classes:
        del state["fc.weight"], state["fc.bias"]
    found = network()
    fresh = found.get_layer("logits").get_weights()
    pretrained.load([found], file_of(state, tmp_path))
    np.testing.assert_equal(found.get_layer("logits").get_weights(), fresh)
    images, full = pixels((4, 9, 9, 3)), resnet8_state()
    whole = {**full, "fc.weight": np.eye(64), "fc.bias": np.zeros(64)}
    expected = resnet8_logits(whole, images)
    np.testing.assert_allclose(found(images)["features"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "changed", "message"),
    [
        ("resnet8_projection", 8, {}, "8x8 pixels.*pads.*pass --image_size=9"),
        ("vgg11", 33, {}, "33x33 pixels.*pass --image_size=64"),
        ("resnet8", 9, {}, r"layer2.0.downsample.0 is of .* where resnet8 has"),
        ("resnet14_projection", 9, {}, "name a checkpoint of the same network"),
        ("resnet8_projection", 9, {"layer3.1.conv1.weight": np.zeros((64, 64, 3, 3))}, "besides"),
        ("resnet8_projection", 9, {"stem.weight": np.zeros(3)}, "has stem.weight, which no"),
        ("resnet8_projection", 9, {"layer1.0.bn1.running_mean": None}, "stands where"),
        ("resnet8_projection", 9, {"layer1.0.conv2.weight": np.zeros((16, 8, 3, 3))}, "is of"),
        ("mobilenet_v2_x0.1", 9, {}, "no network of PyTorch is known to compute what mobilenet"),
    ],
)
def test_what_is_not_the_same_network_is_refused_by_name(name, size, changed, message, tmp_path):
    state = {**resnet8_state(), **changed}
    path = file_of({n: array for n, array in state.items() if array is not None}, tmp_path)
    with pytest.raises(InputError, match=rf"^--weights_from=.*safetensors.*{message}") as caught:
        pretrained.load([network(name, size)], path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "package", "advice"),
    [("a.pth", "torch", "safetensors.torch.save_file"), ("a.safetensors", "safetensors", "pip")],
)
def test_what_reads_a_file_and_is_not_installed_is_named(file, package, advice, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == package else find(n))
    with pytest.raises(InputError, match=f"{file} needs .*, not installed here: .*{advice}"):
        pretrained.load([network()], file)


# With PyTorch: each layout


@pytest.mark.bench
@pytest.mark.parametrize(
    ("name", "size", "suffix"),
    [
        *(("resnet14", 17, "pth"), ("resnet14_projection", 17, "safetensors")),
        *(("wrn16_2", 17, "safetensors"), ("vgg11", 32, "safetensors")),
        *(("vgg11_linear", 32, "pt"), ("keras_densenet121", 33, "safetensors")),
    ],
)
def test_each_answers_as_in_pytorch(name, size, suffix, tmp_path):
    torch = pytest.importorskip("torch")
    from tests.networks.pytorch_networks import random_network

    theirs = random_network(name)
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        importlib.import_module("safetensors.torch").save_file(theirs.state_dict(), path)
    else:
        state = theirs.state_dict()
        torch.save({"epoch": 3, "state_dict": state} if suffix == "pth" else state, path)
    ours = network(name, size)
    pretrained.load([ours], str(path))
    images = pixels((4, size, size, 3))
    mean, deviation = STATISTICS["mean"], STATISTICS["deviation"]
    if name.startswith("keras_densenet"):  # as torchvision, and Keras, normalise
        mean, deviation = 255 * np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    given = ((images - np.array(mean)) / deviation).astype("float32").transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs(torch.tensor(np.ascontiguousarray(given))).numpy()
    assert np.std(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(ours(images)["logits"], expected, rtol=1e-4, atol=1e-4)
