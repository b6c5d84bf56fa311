"""Formats beside the SavedModel: their answers, their figures, all of them or none."""

import importlib.util
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import output
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.runs import config
from tf_cutnmix.serving import export, formats
from tf_cutnmix.serving.formats import FORMATS

HERE = [
    name
    for name, form in FORMATS.items()
    if all(importlib.util.find_spec(package) for package in form.packages)
]
each_format = pytest.mark.parametrize(
    "name",
    [
        name
        if name in HERE
        else pytest.param(name, marks=pytest.mark.skip(f"the extra {form.extra} is not installed"))
        for name, form in FORMATS.items()
    ],
)
TEMPERATURE, CONFIDENT = 2.0, 0.3
CLASS_NAMES = [f"class {number}" for number in range(CLASSES)]


def random_images(count: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network whose answers depend on the images."""
    network = tiny_peer()
    generator = np.random.default_rng(0)
    network.set_weights([generator.normal(0.2, 0.6, w.shape) ** 2 for w in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What making the exports has printed."""
    return []


@pytest.fixture(scope="module")
def version(network, printed, tmp_path_factory) -> pathlib.Path:
    with output.held_back() as file:
        made = export(
            [network],
            tmp_path_factory.mktemp("exports") / "tiny",
            CLASS_NAMES,
            random_images(40),
            labels=np.arange(40) % CLASSES,
            formats=HERE,
            temperature=TEMPERATURE,
            confident_from=CONFIDENT,
        )
        file.seek(0)
        printed.append(file.read())
    return made


@pytest.fixture(scope="module")
def served(version):
    return tf.saved_model.load(str(version)).signatures


@each_format
def test_a_format_answers_in_its_own_runtime_as_the_savedmodel_does(name, version, served):
    form = FORMATS[name]
    answer = form.load(version / form.file)
    for size in [(8, 8)] if form.in_8_bits else [(8, 8), (13, 21), (5, 4)]:
        images = random_images(3, *size)
        expected = served["serving_default"](images=tf.constant(images))
        answered = answer(images)
        assert set(answered) == set(expected)
        tolerance = 0.1 if form.in_8_bits else 1e-4 if size == (8, 8) else 1e-2
        np.testing.assert_allclose(
            answered["probabilities"], expected["probabilities"], atol=tolerance
        )
        surest = answered["probabilities"].max(axis=-1)
        clear = np.abs(surest - CONFIDENT) > 0.02
        np.testing.assert_array_equal(answered["confident"][clear], surest[clear] >= CONFIDENT)
        if tolerance == 1e-4:
            np.testing.assert_allclose(answered["logits"], expected["logits"], atol=1e-3)
            np.testing.assert_array_equal(answered["classes"], expected["classes"])


@each_format
def test_the_record_holds_the_figures_of_a_format(name, version, network):
    form = FORMATS[name]
    figures = json.loads((version / "assets" / "export.json").read_text())["formats"]
    images, labels = random_images(40), np.arange(40) % CLASSES
    answer = form.load(version / form.file)(images)["probabilities"]
    own = tf.nn.softmax(network(images, training=False)["logits"] / TEMPERATURE).numpy()
    assert figures[name]["file"] == form.file
    weights = (version / form.file).with_suffix(".bin")
    own_files = [version / form.file, *([weights] if name == "openvino" else [])]
    assert figures[name]["bytes"] == sum(file.stat().st_size for file in own_files)
    assert figures[name]["accuracy"] == np.mean(answer.argmax(-1) == labels)
    assert figures["savedmodel"]["accuracy"] == np.mean(own.argmax(-1) == labels)
    assert figures[name]["agreement"] == np.mean(answer.argmax(-1) == own.argmax(-1))
    assert figures[name]["largest_difference"] == pytest.approx(
        np.abs(answer - own).max(), abs=1e-5
    )


def test_what_converters_print_is_held_back(version, printed):
    assert printed == [""]


def test_weights_of_8_bits_take_less_room(version):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    details = interpreters.Interpreter(str(version / "model_int8.tflite")).get_tensor_details()
    sizes = [
        np.dtype(detail["dtype"]).itemsize
        for detail in details
        if detail["shape"].size == 4 and "conv" in detail["name"].lower()
    ]
    assert min(sizes) == 1


@each_format
def test_the_guide_shows_how_a_format_is_used(name, version, served):
    functions = {
        "litert": "answer_with_litert",
        "onnx": "answer_with_onnxruntime",
        "openvino": "answer_with_openvino",
    }
    if name not in functions:
        pytest.skip("the guide tells it from litert")
    guide = (pathlib.Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    (block,) = re.findall(rf"^```python\n(def {functions[name]}.*?)^```$", guide, re.S | re.M)
    namespace: dict = {}
    exec(block, namespace)
    images = random_images(2, 9, 11)
    answer = namespace[functions[name]](str(version / FORMATS[name].file), images)
    expected = served["portable"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-2)


def test_the_commands_know_every_format():
    assert ("savedmodel", *FORMATS) == config.FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_extra_is_one_line_that_says_what_to_install(name, monkeypatch):
    find = importlib.util.find_spec
    (first, *_) = FORMATS[name].packages
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda package: None if package == first else find(package)
    )
    extra = FORMATS[name].extra
    with pytest.raises(InputError, match=rf"{name} needs {first}.*tf_cutnmix\[{extra}\]"):
        formats.check_installed([name])


def right(images: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES)[[0] * len(images)]


def answering(value: float, shape: tuple[int, ...] = (8, 8)):
    """Loads a format that is right but for images of one shape."""

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        is_right = images.shape[1:3] != shape
        wrong = np.full([len(images), CLASSES], value)
        return {"probabilities": right(images) if is_right else wrong}

    return lambda file: answer


def fail(*arguments: object) -> None:
    raise ValueError("no such operation\nand more")


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("litert", {"load": answering(0.1)}, r"model\.tflite is off by 0\.9 from the model"),
        ("litert_int8", {"load": answering(np.nan)}, r"model_int8\.tflite is off by nan"),
        ("litert", {"load": answering(0.1, (12, 16))}, "off by 0.9 on images of another size"),
        ("onnx", {"convert": fail}, "cannot export as onnx: no such operation$"),
    ],
)
def test_a_format_that_does_not_answer_as_the_network_is_refused(
    name, changes, words, tmp_path, monkeypatch
):
    form = FORMATS[name]._replace(**{"convert": lambda *arguments: None, **changes})
    monkeypatch.setattr(formats, "FORMATS", {name: form})
    with pytest.raises(RunError, match=words):
        formats.convert([name], tmp_path, right, random_images(8))


def test_if_one_format_fails_there_is_no_version(network, tmp_path, monkeypatch):
    form = FORMATS["onnx"]._replace(convert=fail, packages=())
    monkeypatch.setattr(formats, "FORMATS", {"onnx": form})
    with pytest.raises(RunError, match="cannot export as onnx"):
        export([network], tmp_path / "x", CLASS_NAMES, random_images(8), formats=["onnx"])
    assert list((tmp_path / "x").iterdir()) == []
