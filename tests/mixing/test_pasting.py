"""Pasting and blending are what a few lines of NumPy do."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.mixing.batches import index_images
from tf_cutnmix import CutNMix
from tf_cutnmix.mixing import pasting
from tf_cutnmix.mixing.sampling import Draw


@st.composite
def pastes(draw):
    """Images of random bits, NaN included, and any draw for them."""
    dtype = draw(st.sampled_from(["uint8", "int32", "float16", "bfloat16", "float32", "float64"]))
    dtype = tf.as_dtype(dtype).as_numpy_dtype
    batch, height, width, channels = draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=9))
    num_peers = draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = random.bytes(batch * height * width * channels * np.dtype(dtype).itemsize)
    images = np.frombuffer(bits, dtype).reshape(batch, height, width, channels)
    sizes = random.integers([0, 0], [height + 1, width + 1], [batch, 1, 2])
    sizes = np.repeat(sizes, num_peers, axis=1)
    corners = random.integers(np.array([height, width]) - sizes + 1)
    boxes = np.concatenate([corners, sizes], axis=-1).astype("int32")
    ratio = random.random(batch).astype("float32")
    return images, Draw(ratio, random.permutation(batch).astype("int32"), boxes)


@given(pastes())
def test_paste_selects_the_pixels_that_numpy_does(arguments):
    images, draw = arguments
    expected = np.repeat(images[:, None], draw.boxes.shape[1], axis=1)
    for i, peer in np.ndindex(draw.boxes.shape[:2]):
        top, left, height, width = draw.boxes[i, peer]
        box = np.s_[top : top + height, left : left + width]
        expected[i, peer][box] = images[draw.partner[i]][box]
    views = pasting.paste(tf.constant(images), Draw(*map(tf.constant, draw))).numpy()
    assert views.dtype == images.dtype
    assert views.shape == expected.shape
    assert views.tobytes() == expected.tobytes()


@pytest.mark.parametrize("regions", ["uniform", "spread"])
def test_every_peer_pastes_the_same_number_of_pixels(regions):
    batch = {"images": index_images(64, 9, 13), "labels": np.arange(64)}
    views = CutNMix(4, num_classes=64, regions=regions, seed=0)(batch)["images"].numpy()
    own = (views[..., 0] == np.arange(64)[:, None, None, None]).sum(axis=(2, 3))
    assert len(np.unique(own)) > 10
    np.testing.assert_array_equal(own, np.repeat(own[:, :1], 4, axis=1))
    assert (views[:, 0] != views[:, 1]).any()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 1e-6), ("float64", 1e-14)],
)
def test_blend_of_floats_is_as_exact_as_their_dtype(dtype, tolerance):
    images, draw = blend_arguments(dtype)
    mixed = pasting.blend(images, draw)
    assert mixed.dtype == dtype
    np.testing.assert_allclose(tf.cast(mixed, tf.float64), blended(images, draw), rtol=tolerance)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_blend_of_whole_numbers_rounds_to_nearest(dtype):
    images, draw = blend_arguments(dtype)
    mixed = pasting.blend(images, draw)
    assert mixed.dtype == dtype
    assert np.abs(tf.cast(mixed, tf.float64) - blended(images, draw)).max() <= 0.5 + 1e-4


def blend_arguments(dtype):
    images = tf.cast(np.random.default_rng(0).integers(256, size=[4, 5, 6, 3]), dtype)
    ratio = tf.constant([0.0, 1.0, 0.25, 0.7])
    return images, Draw(ratio, tf.constant([2, 0, 3, 1]), tf.zeros([4, 1, 4], tf.int32))


def blended(images, draw):
    values = tf.cast(images, tf.float64).numpy()
    ratio = draw.ratio.numpy().astype("float64")[:, None, None, None]
    return ratio * values + (1 - ratio) * values[draw.partner]
