"""The files of a request, each for itself."""

import concurrent.futures

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tests.data.test_decode import ALMOST, BY_PILLOW, EXACT, encoded, jpeg
from tf_cutnmix.data import resize
from tf_cutnmix.data.decode import decode
from tf_cutnmix.serving.signatures import decode_each

SIZE = (9, 7)
PNG = EXACT["PNG"]
BROKEN = [b"", b"no picture", PNG[:100], ALMOST["JPEG"][:300], *BY_PILLOW.values()]


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
        assert all(threads.map(ask, range(60)))


def test_there_is_no_python_in_the_graph(decoded) -> None:
    graph = decoded.get_concrete_function().graph.as_graph_def()
    functions = [node for function in graph.library.function for node in function.node_def]
    kinds = {node.op for node in (*graph.node, *functions)}
    assert "DecodeImage" in kinds
    assert not {kind for kind in kinds if "PyFunc" in kind}
