"""Exports: layout, versions, signatures, answers equal to the networks', no wrong ones."""

import contextvars
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tf_cutnmix import data
from tf_cutnmix.errors import RunError
from tf_cutnmix.networks import build_network, served
from tf_cutnmix.serving import savedmodel

SIZE = (8, 8)
CLASS_NAMES = ("cat", "guinea pig", "Schäferhund")
TWO = "two_unlike_networks"


def plain_network(features: int = 5) -> keras.Model:
    images = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(features, 3, strides=2)(x)
    x = keras.layers.BatchNormalization()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    logits = keras.layers.Dense(len(CLASS_NAMES))(pooled)
    return keras.Model(images, {"features": pooled, "logits": logits})


def with_statistics(network: keras.Model, seed: int) -> keras.Model:
    """The network as if it had been trained: no variable is at its initial value."""
    random = np.random.default_rng(seed)
    for variable in network.variables:
        variable.assign(np.asarray(variable) + random.uniform(0.05, 0.2, variable.shape))
    return network


def random_images(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def answers(networks: list[keras.Model], images: np.ndarray, output: str) -> list[np.ndarray]:
    return [np.asarray(network(images, training=False)[output]) for network in networks]


def mean_probabilities(networks: list[keras.Model], images: np.ndarray) -> np.ndarray:
    return np.mean([softmax(logits) for logits in answers(networks, images, "logits")], axis=0)


def tensor_types(version: pathlib.Path) -> set[tf.DType]:
    model = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    functions = [node for function in graph.library.function for node in function.node_def]
    numbers = {value.type for node in (*graph.node, *functions) for value in node.attr.values()}
    return {tf.as_dtype(number) for number in numbers if number}


def contents(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def one() -> list[keras.Model]:
    return [with_statistics(plain_network(), seed=1)]


@pytest.fixture(scope="module")
def two(one) -> list[keras.Model]:
    return [with_statistics(build_network("resnet8", (*SIZE, 3), len(CLASS_NAMES)), seed=2), *one]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("savedmodels")


@pytest.fixture(scope="module")
def version_of_one(one, folder) -> pathlib.Path:
    return savedmodel.export(one, folder / "one_network", CLASS_NAMES, random_images(3))


@pytest.fixture(scope="module")
def version_of_two(two, folder) -> pathlib.Path:
    return savedmodel.export(two, folder / TWO, CLASS_NAMES, random_images(3))


@pytest.fixture(scope="module")
def of_one(version_of_one):
    return tf.saved_model.load(str(version_of_one)).signatures


@pytest.fixture(scope="module")
def of_two(version_of_two):
    return tf.saved_model.load(str(version_of_two)).signatures


@pytest.mark.long
def test_the_first_version_is_1_and_holds_a_savedmodel(version_of_two, folder):
    assert version_of_two == folder / TWO / "1"
    assert contents(version_of_two.parent) == ["1"]
    assert {"saved_model.pb", "variables", "assets"} <= set(contents(version_of_two))


def test_class_names_are_an_asset_with_a_name_per_line(version_of_two):
    names = (version_of_two / "assets" / "class_names.txt").read_text(encoding="utf-8")
    assert names == "cat\nguinea pig\nSchäferhund\n"


def test_the_savedmodel_holds_the_variables_of_the_networks_and_no_others(version_of_two, two):
    stored = tf.train.list_variables(str(version_of_two / "variables" / "variables"))
    shapes = sorted(
        tuple(shape)
        for name, shape in stored
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not name.startswith("save_counter")
    )
    assert shapes == sorted(tuple(v.shape) for network in two for v in network.variables)


@pytest.mark.long
@pytest.mark.parametrize("name", ["a[y]", "b\\c", "[*]?"])
def test_it_is_written_tried_and_loaded_where_tensorflow_sees_a_pattern(
    name, one, tmp_path, monkeypatch
):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    version = savedmodel.export(one, pathlib.Path("out"), CLASS_NAMES, random_images(3))
    assert contents(version) == ["assets", "fingerprint.pb", "saved_model.pb", "variables"]
    loaded = served.load(str(tmp_path / name / version), "savedmodel")
    expected = mean_probabilities(one, random_images(4))
    answer = loaded.predict(images=tf.constant(random_images(4)))["probabilities"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.long
def test_a_fresh_process_loads_it_with_tensorflow_alone(version_of_two, two, tmp_path):
    images = random_images(4)
    np.save(tmp_path / "images.npy", images)
    script = """
import json, sys
import numpy as np, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
answer = signatures["serving_default"](images=tf.constant(np.load("images.npy")))
print(json.dumps({
    "packages": [name for name in sys.modules if name == "tf_cutnmix"],
    "inputs": {
        name: [[key, spec.dtype.name, spec.shape.as_list()]
               for key, spec in signature.structured_input_signature[1].items()]
        for name, signature in signatures.items()
    },
    "outputs": {
        name: {key: [spec.dtype.name, spec.shape.as_list()]
               for key, spec in signature.structured_outputs.items()}
        for name, signature in signatures.items()
    },
    "probabilities": answer["probabilities"].numpy().tolist(),
}))
"""
    command = [sys.executable, "-P", "-c", script, str(version_of_two)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    seen = json.loads(process.stdout)
    prediction = {
        "probabilities": ["float32", [None, 3]],
        "logits": ["float32", [None, 3]],
        "classes": ["int64", [None]],
    }
    assert seen["packages"] == []
    images_of_any_size = [["images", "uint8", [None, None, None, 3]]]
    assert seen["inputs"] == {
        "serving_default": images_of_any_size,
        "serve_bytes": [["bytes", "string", [None]]],
        "features": images_of_any_size,
        "portable": images_of_any_size,
        "fixed_size": [["images", "float32", [None, *SIZE, 3]]],
    }
    assert seen["outputs"] == {
        "serving_default": prediction,
        "serve_bytes": {**prediction, "valid": ["bool", [None]]},
        "features": {"features": ["float32", [None, 64 + 5]]},
        "portable": prediction,
        "fixed_size": prediction,
    }
    np.testing.assert_allclose(seen["probabilities"], mean_probabilities(two, images), atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_one_network_answers_as_itself(of_one, one, count):
    images = random_images(count)
    answer = of_one["serving_default"](images=tf.constant(images))
    (logits,) = answers(one, images, "logits")
    np.testing.assert_allclose(answer["logits"], logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], softmax(logits), atol=1e-6)


def test_the_ensemble_answers_with_the_mean_of_the_probabilities(of_two, two):
    images = random_images(6)
    expected = mean_probabilities(two, images)
    apart = [softmax(logits) for logits in answers(two, images, "logits")]
    assert np.abs(apart[0] - apart[1]).max() > 0.1
    answer = of_two["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)


def test_logits_and_classes_belong_to_the_probabilities(of_two):
    answer = of_two["serving_default"](images=tf.constant(random_images(20)))
    np.testing.assert_allclose(softmax(answer["logits"].numpy()), answer["probabilities"], 1e-5)
    np.testing.assert_array_equal(answer["classes"], np.argmax(answer["probabilities"], axis=-1))


def test_features_are_the_networks_side_by_side(of_two, two):
    images = random_images(4)
    expected = np.concatenate(answers(two, images, "features"), axis=-1)
    features = of_two["features"](images=tf.constant(images))["features"]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 13), (24, 16)])
@pytest.mark.parametrize(
    ("signature", "output"), [("serving_default", "logits"), ("features",) * 2]
)
def test_images_of_another_size_are_resized(of_one, one, size, signature, output):
    images = random_images(3, size)
    (expected,) = answers(one, data.resize(images, SIZE).numpy(), output)
    answer = of_one[signature](images=tf.constant(images))[output]
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


def test_png_files_are_answered_as_their_pixels(of_two):
    images = tf.constant(random_images(4))
    files = tf.stack([tf.io.encode_png(image) for image in images])
    np.testing.assert_allclose(
        of_two["serve_bytes"](bytes=files)["logits"],
        of_two["serving_default"](images=images)["logits"],
        rtol=1e-6,
    )


def test_one_request_holds_files_of_any_kind_and_size(of_one):
    sizes = (SIZE, (6, 18), (20, 9))
    photo, wide, tall = (tf.constant(random_images(1, size)[0]) for size in sizes)
    grey = wide[..., :1]
    jpeg = tf.io.encode_jpeg(photo, quality=80)
    files = tf.stack([jpeg, tf.io.encode_png(grey), tf.io.encode_png(tall)])
    answer = of_one["serve_bytes"](bytes=files)
    pixels = (tf.io.decode_jpeg(jpeg), tf.image.grayscale_to_rgb(grey), tall)
    for position, image in enumerate(pixels):
        expected = of_one["serving_default"](images=image[tf.newaxis])["logits"][0]
        np.testing.assert_allclose(answer["logits"][position], expected, rtol=1e-5, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Something(keras.layers.Layer):
    """Fails on no images, as do convolutions on some processors."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(images)[0])]):
            return tf.identity(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [SIZE, (5, 13)])
def test_no_images_are_answered_with_no_rows_by_networks_that_need_some(size, channels):
    images = keras.Input((*SIZE, channels))
    pooled = keras.layers.GlobalAveragePooling2D()(Something()(images))
    logits = keras.layers.Dense(3)(pooled)
    network = keras.Model(images, {"features": pooled, "logits": logits})
    signatures = savedmodel._signatures([network, network], max_pixels=1000)
    for name in signatures:
        request = {
            "serve_bytes": tf.zeros([0], tf.string),
            "fixed_size": tf.zeros([0, *SIZE, channels]),
        }.get(name, tf.zeros([0, *size, 3], tf.uint8))
        answer = signatures[name](request)
        columns = {"features": 2 * channels, "logits": 3, "probabilities": 3}
        assert {output: tuple(rows.shape) for output, rows in answer.items()} == {
            output: (0, columns[output]) if output in columns else (0,) for output in answer
        }


def test_files_that_are_none_have_zeros_in_all(one):
    network = keras.models.clone_model(one[0])
    # Of a black image, as which they are decoded, class 2 is the likeliest.
    network.set_weights([*one[0].get_weights()[:-1], np.float32([-50, 1, 50])])
    serve = savedmodel._signatures([network], max_pixels=100)["serve_bytes"]
    whole = tf.io.encode_png(random_images(1)[0]).numpy()
    large = tf.io.encode_png(np.zeros((11, 10, 3), np.uint8)).numpy()
    answer = serve(tf.constant([b"no picture", whole, whole[:50], b"", large]))
    assert answer["valid"].numpy().tolist() == [False, True, False, False, False]
    assert answer["classes"].numpy().tolist() == [0, 2, 0, 0, 0]
    for name in ("logits", "probabilities"):
        assert np.any(answer[name], axis=1).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("size", [SIZE, (5, 13), (24, 16)])
def test_the_portable_signature_answers_as_the_default_one(of_two, size):
    images = tf.constant(random_images(3, size))
    expected = of_two["serving_default"](images=images)
    answer = of_two["portable"](images=images)
    # One rounds a pixel up that the other rounds down.
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-2)


def test_the_portable_signature_has_no_operation_and_no_branch_that_converters_lack(of_two):
    function = of_two["portable"]
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    kinds = {node.op for node in nodes}
    assert "MatMul" in kinds or "BatchMatMulV2" in kinds
    assert kinds.isdisjoint({"ScaleAndTranslate", "EnsureShape", "If", "StatelessIf", "While"})


def test_images_of_the_networks_size_may_be_floats(of_two, two):
    images = random_images(3)
    answer = of_two["fixed_size"](images=tf.constant(images, tf.float32))
    np.testing.assert_allclose(answer["probabilities"], mean_probabilities(two, images), atol=1e-6)


def test_greyscale_networks_take_greyscale_and_colour(tmp_path):
    inputs = keras.Input((*SIZE, 1))
    pooled = keras.layers.Flatten()(inputs)
    logits = keras.layers.Dense(3)(keras.layers.Rescaling(1 / 255)(pooled))
    network = keras.Model(inputs, {"features": pooled, "logits": logits})
    colour = random_images(3)
    grey = np.round(colour @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., np.newaxis]
    version = savedmodel.export([network], tmp_path / "grey", CLASS_NAMES, grey)
    served = tf.saved_model.load(str(version)).signatures
    (expected,) = answers([network], grey, "logits")
    for signature in ("serving_default", "portable"):
        for images in (grey, colour):
            answer = served[signature](images=tf.constant(images))["logits"]
            np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)
    for images in (grey, colour):
        files = tf.stack([tf.io.encode_png(image) for image in images])
        answer = served["serve_bytes"](bytes=files)["logits"]
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


def test_an_export_says_what_it_is(version_of_two, two):
    record = json.loads((version_of_two / "assets" / "export.json").read_text())
    assert record["input"] == {"height": 8, "width": 8, "channels": 3, "pixels": [0, 255]}
    assert record["networks"] == [network.name for network in two]
    assert record["parameters"] == sum(network.count_params() for network in two)
    known = {"mean": [127.5] * 3, "deviation": [63.75] * 3}
    assert record["normalisation"] == {"inside_the_network": True, "of_each": [known, None]}
    assert record["versions"]["tensorflow"] == tf.__version__
    assert list(record["formats"]) == ["savedmodel"]
    on_disk = [p for p in version_of_two.rglob("*") if p.is_file() and p.name != "export.json"]
    on_disk = [p for p in on_disk if p.parent.name != "assets.extra"]
    size = sum(path.stat().st_size for path in on_disk)
    assert record["formats"]["savedmodel"]["bytes"] == size


def test_the_request_for_tensorflow_serving_is_one_that_it_reads(version_of_two):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    place = version_of_two / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = list(tf.data.TFRecordDataset(str(place)).as_numpy_iterator())
    request = logs.PredictionLog.FromString(record).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    images = tf.make_ndarray(request.inputs["images"])
    np.testing.assert_array_equal(images, random_images(3)[:1])


def test_a_network_trained_in_bfloat16_is_exported_in_float32_as_the_highest_version(
    version_of_one, one
):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = plain_network()
    finally:
        keras.config.set_dtype_policy(policy)
    network.set_weights(one[0].get_weights())
    assert network.outputs[0].dtype == "bfloat16"
    name = version_of_one.parent
    (name / "9").mkdir()

    version = savedmodel.export([network], name, CLASS_NAMES, random_images(3))

    assert version == name / "10"
    assert contents(name) == ["1", "10", "9"]
    images = random_images(4)
    signatures = tf.saved_model.load(str(version)).signatures
    answer = signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(answer["logits"], answers(one, images, "logits")[0], rtol=1e-5)
    assert tf.float32 in tensor_types(version)
    assert tf.bfloat16 not in tensor_types(version)


def test_an_export_that_answers_otherwise_than_the_network_gets_no_version(
    one, tmp_path, monkeypatch
):
    write = savedmodel._write

    def write_other_weights(networks, scratch, class_names, max_pixels):
        others = [keras.models.clone_model(network) for network in networks]
        for other, network in zip(others, networks, strict=True):
            weights = network.get_weights()
            weights[-1] = weights[-1] + np.float32([0.01, 0, 0])
            other.set_weights(weights)
        return write(others, scratch, class_names, max_pixels)

    monkeypatch.setattr(savedmodel, "_write", write_other_weights)
    with pytest.raises(RunError, match=r"serving_default is off by 0\.00"):
        savedmodel.export(one, tmp_path / "wrong", CLASS_NAMES, random_images(3))
    assert contents(tmp_path / "wrong") == []


def test_a_network_that_answers_with_nan_gets_no_version(tmp_path):
    network = plain_network()
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    with pytest.raises(RunError, match="off by nan"):
        savedmodel.export([network], tmp_path / "nan", CLASS_NAMES, random_images(3))
    assert contents(tmp_path / "nan") == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(one, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write the export .*file/name: "):
        savedmodel.export(one, tmp_path / "file" / "name", CLASS_NAMES, random_images(3))


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
    told = [(folder / number / "saved_model.pb").read_text() for number in contents(folder)]
    assert told == ["before", "another's", "ours"]


def test_an_export_that_does_not_load_is_one_line(one, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match=r"with TensorFlow alone: it says nothing$"):
        contextvars.Context().run(  # not in the process of the suite
            savedmodel.export, one, tmp_path / "x", CLASS_NAMES, random_images(3)
        )
    assert contents(tmp_path / "x") == []
