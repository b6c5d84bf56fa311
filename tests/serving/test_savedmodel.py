"""Exports: layout, versions, signatures, answers equal to the networks', no wrong ones."""

import contextvars
import json
import os
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax
from tensorflow.core.protobuf import saved_model_pb2

from tf_cutnmix import data
from tf_cutnmix.errors import RunError
from tf_cutnmix.networks import served
from tf_cutnmix.serving import fresh_process, savedmodel

SIZE = (8, 8)
CLASS_NAMES = ("cat", "guinea pig", "Schäferhund")
LUMA = (0.299, 0.587, 0.114)


def network_of(channels: int = 3, features: int = 5, **normalising: object) -> keras.Model:
    images = keras.Input((*SIZE, channels))
    x = keras.layers.Rescaling(1 / 255)(images)
    if normalising:
        x = keras.layers.Normalization(**normalising)(images)
    x = keras.layers.Conv2D(features, 3, strides=2)(x)
    x = keras.layers.BatchNormalization()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    logits = keras.layers.Dense(len(CLASS_NAMES))(pooled)
    return keras.Model(images, {"features": pooled, "logits": logits})


def with_statistics(network: keras.Model, seed: int) -> keras.Model:
    """The network as if it had been trained: no variable is at its initial value."""
    generator = np.random.default_rng(seed)
    for variable in network.variables:
        variable.assign(np.asarray(variable) + generator.uniform(0.05, 0.4, variable.shape))
    return network


def random_images(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def answers(networks: list[keras.Model], images: np.ndarray, output: str) -> list[np.ndarray]:
    return [np.asarray(network(images, training=False)[output]) for network in networks]


def mean_probabilities(networks: list[keras.Model], images: np.ndarray) -> np.ndarray:
    return np.mean([softmax(z, axis=-1) for z in answers(networks, images, "logits")], axis=0)


def contents(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def two() -> list[keras.Model]:
    known = {"mean": [127.5] * 3, "variance": [63.75**2] * 3}
    networks = network_of(features=4, **known), network_of()
    return [with_statistics(network, seed) for seed, network in enumerate(networks)]


@pytest.fixture(scope="module")
def version(two, tmp_path_factory) -> pathlib.Path:
    """Of two networks, where TensorFlow takes the path for a pattern, and named relative to it."""
    here = pathlib.Path.cwd()
    place = tmp_path_factory.mktemp("exports") / "a[y]b\\c*"
    place.mkdir()
    os.chdir(place)
    try:
        return place / savedmodel.export(two, pathlib.Path("out"), CLASS_NAMES, random_images(3))
    finally:
        os.chdir(here)


@pytest.fixture(scope="module")
def model(version) -> served.Served:
    return served.load(str(version), "savedmodel")


@pytest.fixture(scope="module")
def signatures(model):
    return model.model.signatures


def test_the_first_version_is_1_and_holds_a_savedmodel_with_the_names_of_its_classes(version):
    assert version.name == "1"
    assert contents(version.parent) == ["1"]
    assert {"saved_model.pb", "variables", "assets"} <= set(contents(version))
    names = (version / "assets" / "class_names.txt").read_text(encoding="utf-8")
    assert names == "cat\nguinea pig\nSchäferhund\n"


def test_the_savedmodel_holds_the_variables_of_the_networks_and_no_others(version, two, tmp_path):
    (tmp_path / "variables").symlink_to(version / "variables")
    stored = tf.train.list_variables(str(tmp_path / "variables" / "variables"))
    shapes = sorted(
        tuple(shape)
        for name, shape in stored
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not name.startswith("save_counter")
    )
    assert shapes == sorted(tuple(v.shape) for network in two for v in network.variables)


def test_signatures_take_and_answer_what_the_guide_says(signatures):
    def written(specs) -> dict[str, tuple]:
        return {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in specs.items()}

    images = {"images": ("uint8", [None, None, None, 3])}
    prediction = {
        "probabilities": ("float32", [None, 3]),
        "logits": ("float32", [None, 3]),
        "classes": ("int64", [None]),
        "confident": ("bool", [None]),
    }
    expected = {
        "serving_default": (images, prediction),
        "serve_bytes": (
            {"bytes": ("string", [None])},
            {**prediction, "valid": ("bool", [None])},
        ),
        "features": (images, {"features": ("float32", [None, 4 + 5])}),
        "portable": (images, prediction),
        "fixed_size": ({"images": ("float32", [None, *SIZE, 3])}, prediction),
    }
    assert {
        name: (written(s.structured_input_signature[1]), written(s.structured_outputs))
        for name, s in signatures.items()
    } == expected


@pytest.mark.parametrize("size", [SIZE, (5, 13), (24, 16)])
def test_every_signature_answers_with_the_mean_of_the_networks(size, signatures, two):
    images = random_images(6, size)
    pixels = data.resize(images, SIZE).numpy()
    expected = mean_probabilities(two, pixels)
    apart = [softmax(logits, axis=-1) for logits in answers(two, pixels, "logits")]
    assert np.abs(apart[0] - apart[1]).max() > 0.1
    files = tf.stack([tf.io.encode_png(image) for image in images])
    for answer in (
        signatures["serving_default"](images=tf.constant(images)),
        signatures["serve_bytes"](bytes=files),
        signatures["fixed_size"](images=tf.constant(pixels, tf.float32)),
        signatures["portable"](images=tf.constant(images)),
    ):
        is_portable = "valid" not in answer and size != SIZE
        # One rounds a pixel up that the other rounds down.
        tolerance = 1e-2 if is_portable else 1e-6
        np.testing.assert_allclose(answer["probabilities"], expected, atol=tolerance)
    default = signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(default["probabilities"], expected, atol=1e-6)
    features = signatures["features"](images=tf.constant(images))["features"]
    side_by_side = np.concatenate(answers(two, pixels, "features"), axis=-1)
    np.testing.assert_allclose(features, side_by_side, rtol=1e-5, atol=1e-5)


def test_the_portable_signature_has_no_operation_and_no_branch_that_converters_lack(signatures):
    graph = signatures["portable"].graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    kinds = {node.op for node in nodes}
    assert "MatMul" in kinds or "BatchMatMulV2" in kinds
    assert kinds.isdisjoint({"ScaleAndTranslate", "EnsureShape", "If", "StatelessIf", "While"})


def test_an_export_says_what_it_is(version, two):
    record = json.loads((version / "assets" / "export.json").read_text())
    assert record["input"] == {"height": 8, "width": 8, "channels": 3, "pixels": [0, 255]} | {
        "resize": "squash"
    }
    assert record["networks"] == [network.name for network in two]
    assert record["parameters"] == sum(network.count_params() for network in two)
    known = {"mean": [127.5] * 3, "deviation": [63.75] * 3}
    assert record["normalisation"] == {"inside_the_network": True, "of_each": [known, None]}
    assert record["versions"]["tensorflow"] == tf.__version__
    assert list(record["formats"]) == ["savedmodel"]
    on_disk = [p for p in version.rglob("*") if p.is_file() and p.name != "export.json"]
    on_disk = [p for p in on_disk if p.parent.name != "assets.extra"]
    size = sum(path.stat().st_size for path in on_disk)
    assert record["formats"]["savedmodel"]["bytes"] == size


def test_the_request_for_tensorflow_serving_is_one_that_it_reads(version):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    content = (version / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    # A record is its length in 8 bytes, 4 to check that, itself, and 4 to check it.
    log = logs.PredictionLog.FromString(content[12:-4])
    request = log.predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    images = tf.make_ndarray(request.inputs["images"])
    np.testing.assert_array_equal(images, random_images(3)[:1])


def test_a_grey_network_trained_in_bfloat16_is_exported_in_float32_as_the_highest_version(
    tmp_path,
):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = network_of(channels=1)
    finally:
        keras.config.set_dtype_policy(policy)
    in_float32 = with_statistics(network_of(channels=1), seed=1)
    network.set_weights(in_float32.get_weights())
    assert network.outputs[0].dtype == "bfloat16"
    colour = random_images(3)
    grey = np.round(colour @ LUMA).astype(np.uint8)[..., np.newaxis]
    for number in ("9", "1"):
        (tmp_path / "grey" / number).mkdir(parents=True)

    version = savedmodel.export([network], tmp_path / "grey", CLASS_NAMES, grey)

    assert contents(tmp_path / "grey") == ["1", "10", "9"]
    assert version.name == "10"
    (expected,) = answers([in_float32], grey, "logits")
    loaded = tf.saved_model.load(str(version)).signatures
    for images in (grey, colour):
        files = tf.stack([tf.io.encode_png(image) for image in images])
        for answer in (
            loaded["serving_default"](images=tf.constant(images)),
            loaded["portable"](images=tf.constant(images)),
            loaded["serve_bytes"](bytes=files),
        ):
            np.testing.assert_allclose(answer["logits"], expected, rtol=1e-5, atol=1e-5)
    proto = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    types = {value.type for node in nodes for value in node.attr.values()}
    assert tf.float32.as_datatype_enum in types
    assert tf.bfloat16.as_datatype_enum not in types


def test_an_export_that_answers_otherwise_than_the_network_gets_no_version(
    two, tmp_path, monkeypatch
):
    write = savedmodel._write

    def write_other_weights(networks, *arguments):
        others = [keras.models.clone_model(network) for network in networks]
        for other, network in zip(others, networks, strict=True):
            weights = network.get_weights()
            weights[-1] = weights[-1] + np.float32([0.01, 0, 0])
            other.set_weights(weights)
        return write(others, *arguments)

    monkeypatch.setattr(savedmodel, "_write", write_other_weights)
    with pytest.raises(RunError, match=r"serving_default is off by 0\.00"):
        savedmodel.export(two[1:], tmp_path / "wrong", CLASS_NAMES, random_images(3))
    assert contents(tmp_path / "wrong") == []


def test_a_network_that_answers_with_nan_gets_no_version(tmp_path):
    network = network_of()
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    with pytest.raises(RunError, match="off by nan"):
        savedmodel.export([network], tmp_path / "nan", CLASS_NAMES, random_images(3))
    assert contents(tmp_path / "nan") == []


def test_a_version_that_another_export_has_just_taken_is_left_to_it(tmp_path, monkeypatch):
    folder, written = tmp_path / "exports", tmp_path / "written"
    for path, content in ((folder / "1", "before"), (written, "ours")):
        path.mkdir(parents=True)
        (path / "saved_model.pb").write_text(content)
    rename = pathlib.Path.rename

    def after_another(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        if target.name == "2":
            target.mkdir()
            (target / "saved_model.pb").write_text("another's")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", after_another)
    assert savedmodel._in_place(written, folder) == folder / "3"
    found = [(folder / number / "saved_model.pb").read_text() for number in contents(folder)]
    assert found == ["before", "another's", "ours"]


def test_an_export_that_does_not_load_is_one_line(two, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match=r"with TensorFlow alone: it says nothing$"):
        contextvars.Context().run(  # not in the process of the suite
            savedmodel.export, two[1:], tmp_path / "x", CLASS_NAMES, random_images(3)
        )
    assert contents(tmp_path / "x") == []


def test_a_block_has_one_process_which_the_terminal_does_not_interrupt_and_ends_with_it():
    def in_a_block() -> None:
        with fresh_process() as outer, fresh_process() as inner:
            process = outer.begin()
            assert inner.begin() is process
            assert process.poll() is None
            assert os.getpgid(process.pid) != os.getpgid(0)
        assert process.poll() is not None
        with fresh_process() as another:
            assert another is not outer

    contextvars.Context().run(in_a_block)  # in no block of the suite


@pytest.mark.long
def test_a_process_that_failed_or_was_killed_is_told_in_one_line_and_made_anew(
    tmp_path, monkeypatch
):
    # What somebody's Python prints as it starts is no answer.
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    request, answer = tmp_path / "request.npz", tmp_path / "answer.npz"

    def in_a_block() -> None:
        with fresh_process() as process:
            process.begin().kill()
            process.begin().wait()
            with pytest.raises(RunError, match=r"TensorFlow alone: signal 9 has ended it$"):
                process.answer(tmp_path, request, answer)
            with pytest.raises(RunError, match=r"TensorFlow alone: .*does not exist") as caught:
                process.answer(tmp_path / "nothing", request, answer)
            assert "\n" not in str(caught.value)

    contextvars.Context().run(in_a_block)
    assert not answer.exists()
