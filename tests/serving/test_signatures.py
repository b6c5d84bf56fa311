"""What exports answer: the mean of networks, files each for itself, resizing for other runtimes."""

import concurrent.futures
import random

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax

from tests.data.test_decode import ALMOST, BY_PILLOW, EXACT, encoded, jpeg
from tests.data.test_images import filtered
from tests.tiny_peers import tiny_peer
from tf_cutnmix.data import resize
from tf_cutnmix.data.decode import decode
from tf_cutnmix.networks.heatmap import heatmaps
from tf_cutnmix.serving.signatures import decode_each, resize_portably, signatures

SIZE = (9, 7)
PNG = EXACT["PNG"]
BROKEN = [b"", b"no picture", PNG[:100], ALMOST["JPEG"][:300], *BY_PILLOW.values()]


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[0]).integers(0, 256, shape, np.uint8)


def sure_network(seed: int) -> keras.Model:
    """A network whose logits are far from 0 and from those of another seed."""
    random.seed(seed)
    network = tiny_peer()
    *others, bias = network.get_weights()
    network.set_weights([*others, np.random.default_rng(seed).normal(3, 2, bias.shape)])
    return network


def test_the_logits_of_several_networks_are_the_logarithm_of_their_mean_probability() -> None:
    images = random_images(5, 8, 8, 3)
    networks = [sure_network(seed) for seed in range(3)]
    answer = signatures(networks, max_pixels=1000)["serving_default"](tf.constant(images))
    apart = [np.float64(network(images, training=False)["logits"]) for network in networks]
    expected = np.mean([softmax(logits, axis=-1) for logits in apart], axis=0)
    np.testing.assert_allclose(answer["logits"], np.log(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logsumexp(answer["logits"], axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer["classes"], np.argmax(expected, axis=-1))


def test_a_temperature_is_in_the_probabilities_alone_and_says_what_is_confident() -> None:
    images = random_images(50, 8, 8, 3)
    networks = [sure_network(seed) for seed in range(2)]
    apart = [softmax(np.float64(network(images)["logits"]), axis=-1) for network in networks]
    powers = np.mean(apart, axis=0) ** (1 / 2.5)
    expected = powers / powers.sum(axis=1, keepdims=True)
    surest = expected.max(axis=1)
    answer, plain = (
        signatures(networks, 1000, *calibration)["serving_default"](tf.constant(images))
        for calibration in [(2.5, np.median(surest)), ()]
    )
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer["logits"], plain["logits"])
    np.testing.assert_array_equal(answer["confident"], surest >= np.median(surest))
    assert np.mean(answer["confident"]) == 0.5
    assert np.all(plain["confident"])


def test_where_a_network_looks_is_told_of_images_of_any_size() -> None:
    images = random_images(3, 11, 20, 3)
    networks = [sure_network(seed) for seed in range(2)]
    heatmap = signatures(networks, max_pixels=1000)["heatmap"]
    found = heatmap(tf.constant(images))["heatmap"]
    expected = heatmaps(networks, tf.cast(resize(images, (8, 8)), tf.float32))
    assert np.max(expected) == pytest.approx(1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert heatmap(tf.zeros([0, 5, 5, 3], tf.uint8))["heatmap"].shape == (0, 8, 8)


@keras.saving.register_keras_serializable("tests")
class Something(keras.layers.Layer):
    """Fails on no images, as do convolutions on some processors."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(images)[0])]):
            return tf.identity(images)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_images_are_answered_with_no_rows_by_networks_that_need_some(channels: int) -> None:
    images = keras.Input((*SIZE, channels))
    pooled = keras.layers.GlobalAveragePooling2D()(Something()(images))
    logits = keras.layers.Dense(3)(pooled)
    network = keras.Model(images, {"features": pooled, "logits": logits})
    for name, answering in signatures([network, network], max_pixels=1000).items():
        request = {
            "serve_bytes": tf.zeros([0], tf.string),
            "fixed_size": tf.zeros([0, *SIZE, channels]),
        }.get(name, tf.zeros([0, 5, 13, 3], tf.uint8))
        answer = answering(request)
        columns = {"features": 2 * channels, "logits": 3, "probabilities": 3}
        assert {output: tuple(rows.shape) for output, rows in answer.items()} == {
            output: (0, columns[output]) if output in columns else (0,) for output in answer
        }


def test_files_that_are_none_have_zeros_in_all() -> None:
    network = sure_network(0)
    # Of a black image, as which they are decoded, class 2 is the likeliest.
    bias = 50 * np.eye(10, dtype=np.float32)[2]
    network.set_weights([*network.get_weights()[:-1], bias])
    serve = signatures([network], max_pixels=100)["serve_bytes"]
    whole = tf.io.encode_png(random_images(8, 8, 3)).numpy()
    large = tf.io.encode_png(np.zeros((11, 10, 3), np.uint8)).numpy()
    answer = serve(tf.constant([b"no picture", whole, whole[:50], b"", large]))
    assert answer["valid"].numpy().tolist() == [False, True, False, False, False]
    assert answer["classes"].numpy().tolist() == [0, 2, 0, 0, 0]
    assert answer["confident"].numpy().tolist() == answer["valid"].numpy().tolist()
    for name in ("logits", "probabilities"):
        assert np.any(answer[name], axis=1).tolist() == [False, True, False, False, False]


@pytest.fixture(scope="module")
def decoded() -> tf.types.experimental.GenericFunction:
    return tf.function(
        lambda files: decode_each(files, SIZE, max_pixels=600),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def test_files_have_the_pixels_that_training_sees_and_broken_ones_fail_alone(decoded) -> None:
    whole = [*EXACT.values(), jpeg(6), jpeg(3, ">"), *ALMOST.values()]
    files = [file for pair in zip(whole, BROKEN * 3, strict=False) for file in pair]
    images, valid = decoded(tf.constant(files))
    assert valid.numpy().tolist() == [True, False] * len(whole)
    for image, file in zip(images[::2], whole, strict=True):
        np.testing.assert_array_equal(image, resize(decode(file), SIZE))
    assert not np.any(images[1::2])


@pytest.mark.parametrize("files", [[], [PNG], [b""], [b"", b""]])
def test_any_number_of_files_is_answered(decoded, files) -> None:
    images, valid = decoded(tf.constant(files, tf.string, [len(files)]))
    assert images.shape == (len(files), *SIZE, 3)
    assert valid.numpy().tolist() == [bool(file) for file in files]


def test_a_file_with_too_many_pixels_is_not_valid(decoded) -> None:
    large = encoded(PIL.Image.new("L", (31, 20)), "PNG")
    assert decoded(tf.constant([large, PNG]))[1].numpy().tolist() == [False, True]


def test_threads_do_not_get_each_others_files(decoded) -> None:
    def ask(number: int) -> bool:
        files = [PNG if (number + i) % 3 else b"x" for i in range(number % 7)]
        _, valid = decoded(tf.constant(files, tf.string, [len(files)]))
        return valid.numpy().tolist() == [file == PNG for file in files]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(30)))


sides = st.integers(1, 70)


@hypothesis.given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=sides)
@hypothesis.example(before=(5, 6), after=(240, 320), seed=0)
@hypothesis.example(before=(480, 640), after=(32, 32), seed=0)
@hypothesis.example(before=(37, 61), after=(37, 61), seed=0)
@hypothesis.example(before=(1, 9), after=(9, 1), seed=0)
def test_every_pixel_is_that_of_tensorflows_filter_but_for_halves(before, after, seed) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, *before, 3), np.uint8)
    resized = resize_portably(tf.constant(images), after).numpy()
    expected = filtered(images, after)
    assert np.abs(resized - expected).max() < 0.501
    clear = np.abs(expected % 1 - 0.5) > 1e-3
    assert clear.mean() > 0.7
    np.testing.assert_array_equal(resized[clear], resize(images, after).numpy()[clear])
    if before == after:
        np.testing.assert_array_equal(resized, images)


@hypothesis.given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=sides)
@hypothesis.example(before=(480, 640), after=(32, 32), seed=0)
@hypothesis.example(before=(70, 1), after=(1, 70), seed=0)
@pytest.mark.parametrize("how", ["crop", "pad"])
def test_what_is_cut_off_or_black_is_so_in_other_runtimes_too(how, before, after, seed) -> None:
    images = np.random.default_rng(seed).integers(1, 256, (2, *before, 3), np.uint8)
    resized = resize_portably(tf.constant(images), after, how).numpy()
    expected = resize(images, after, how).numpy()
    assert np.abs(resized - expected).max() <= 1
    assert (resized != expected).mean() < 0.3
    np.testing.assert_array_equal(resized == 0, expected == 0)


@pytest.mark.parametrize("how", ["squash", "crop", "pad"])
def test_every_signature_resizes_as_training_does(how: str) -> None:
    network = tiny_peer()
    images = random_images(3, 13, 30, 3)
    functions = signatures([network], 1000, how=how)
    files = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    expected = network(resize(images, (8, 8), how), training=False)
    for name in ("serving_default", "serve_bytes", "portable"):
        answer = functions[name](files if name == "serve_bytes" else tf.constant(images))
        np.testing.assert_allclose(answer["logits"], expected["logits"], rtol=1e-4, atol=1e-4)
    answer = functions["features"](tf.constant(images))
    np.testing.assert_allclose(answer["features"], expected["features"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [[None, None, None, 3], [None, None, None, 1], [None, 5, 7, 3]])
def test_a_graph_knows_the_size_that_comes_out(shape) -> None:
    graph = tf.function(
        lambda images: resize_portably(images, (8, 12)),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
        autograph=False,
    )
    assert graph.get_concrete_function().output_shapes.as_list() == [None, 8, 12, shape[-1]]
    nothing = np.zeros((0, 5, 7, shape[-1]), np.uint8)
    assert graph(nothing).shape == (0, 8, 12, shape[-1])
