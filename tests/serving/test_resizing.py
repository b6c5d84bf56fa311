"""Resizing by matrix products, against TensorFlow's own and against NumPy."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import data
from tf_cutnmix.serving.signatures import resize_portably

sides = st.integers(1, 70)


def exact(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The filter in float64, before rounding."""
    return np.einsum(
        "ih,jw,nhwc->nijc",
        weights(images.shape[1], size[0]),
        weights(images.shape[2], size[1]),
        images.astype(np.float64),
    )


def weights(before: int, after: int) -> np.ndarray:
    scale = before / after
    rows = []
    for centre in (np.arange(after) + 0.5) * scale:
        distances = np.abs(np.arange(before) + 0.5 - centre) / max(scale, 1.0)
        row = np.maximum(0.0, 1.0 - distances)
        rows.append(row / row.sum())
    return np.array(rows)


@pytest.mark.long
@hypothesis.settings(max_examples=60)
@hypothesis.given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=sides)
@hypothesis.example(before=(5, 6), after=(480, 640), seed=0)
@hypothesis.example(before=(480, 640), after=(32, 32), seed=0)
@hypothesis.example(before=(1, 9), after=(9, 1), seed=0)
def test_every_pixel_is_that_of_tensorflows_filter_but_for_halves(before, after, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, *before, 3), np.uint8)
    resized = resize_portably(tf.constant(images), after).numpy()
    expected = exact(images, after)
    assert np.abs(resized - expected).max() < 0.501
    clear = np.abs(expected % 1 - 0.5) > 1e-3
    assert clear.mean() > 0.7
    theirs = data.resize(images, after).numpy()
    np.testing.assert_array_equal(resized[clear], theirs[clear])


def test_images_of_the_size_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (3, 37, 61, 3), np.uint8)
    np.testing.assert_array_equal(resize_portably(tf.constant(images), (37, 61)), images)


@pytest.mark.parametrize("shape", [[None, None, None, 3], [None, None, None, 1], [None, 5, 7, 3]])
def test_a_graph_knows_the_size_that_comes_out(shape):
    graph = tf.function(
        lambda images: resize_portably(images, (8, 12)),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
        autograph=False,
    )
    assert graph.get_concrete_function().output_shapes.as_list() == [None, 8, 12, shape[-1]]
    nothing = np.zeros((0, 5, 7, shape[-1]), np.uint8)
    assert graph(nothing).shape == (0, 8, 12, shape[-1])
