"""Crops and mirror images: against NumPy, and as often as they should be."""

import harness
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_cutnmix.augment import CropAndFlip, shift


def cropped_and_flipped(image, down, right, mirrored):
    """Zero-pad, crop and mirror one image, the textbook way."""
    height, width, _ = image.shape
    padded = np.pad(image, [(height, height), (width, width), (0, 0)])
    crop = padded[height + down : 2 * height + down, width + right : 2 * width + right]
    return crop[:, ::-1] if mirrored else crop


def coordinates(batch, height, width):
    """Images whose pixels hold their own row and column, counted from 1."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.tile(np.stack([rows, columns], axis=-1) + 1, [batch, 1, 1, 1]).astype("int32")


def moves(images):
    """How `coordinates` were moved down, moved to the right and mirrored, read off the pixels."""
    height, width = images.shape[1:3]
    middle = images[:, height // 2, width // 2]
    mirrored = images[:, height // 2, width // 2 + 1, 1] < middle[:, 1]
    column = np.where(mirrored, width - 1 - width // 2, width // 2)
    return middle[:, 0] - 1 - height // 2, middle[:, 1] - 1 - column, mirrored


@st.composite
def shifts(draw):
    """Images, offsets and mirrorings; any crop leaves at least one row and column of them."""
    shape = draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=7))
    dtype = draw(st.sampled_from(["uint8", "int32", "float16", "float32", "float64"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = random.integers(1, 256, shape).astype(dtype)
    batch, height, width, _ = shape
    offsets = random.integers([1 - height, 1 - width], [height, width], [batch, 2])
    return images, offsets.astype("int32"), random.integers(2, size=batch).astype(bool)


@given(shifts())
def test_shift_pads_crops_and_mirrors_as_numpy_does(arguments):
    images, offsets, mirrored = arguments
    moved = shift(tf.constant(images), tf.constant(offsets), tf.constant(mirrored)).numpy()
    expected = [
        cropped_and_flipped(image, *offset, flip)
        for image, offset, flip in zip(images, offsets, mirrored, strict=True)
    ]
    assert moved.dtype == images.dtype
    np.testing.assert_array_equal(moved, expected)


def test_shift_keeps_the_bits_of_bfloat16():
    bits = np.random.default_rng(0).integers(2**16, size=(3, 4, 5, 1)).astype("uint16")
    images = tf.bitcast(bits, tf.bfloat16)
    still = shift(images, tf.zeros([3, 2], tf.int32), tf.zeros([3], tf.bool))
    np.testing.assert_array_equal(tf.bitcast(still, tf.uint16), bits)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("settings", [{}, {"crop": 0.25}, {"flip": False}], ids=str)
def test_layer_passes_the_harness(settings, dtype, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 8, 12, 3)).astype(dtype)
    harness.check_layer(CropAndFlip(seed=3, **settings), images, tmp_path)


def test_without_crop_and_flip_images_stay_as_they_are():
    images = coordinates(8, 5, 7)
    np.testing.assert_array_equal(CropAndFlip(crop=0, flip=False, seed=0)(images), images)


def test_outside_training_images_stay_as_they_are():
    images = coordinates(8, 5, 7)
    layer = CropAndFlip(seed=0)
    np.testing.assert_array_equal(layer(images, training=False), images)
    assert layer.calls == 0


def test_offsets_are_uniform_up_to_the_padding_of_each_side():
    moved = CropAndFlip(crop=0.125, seed=0)(coordinates(5000, 16, 32)).numpy()
    down, right, _ = moves(moved)
    for offsets, padding in ((down, 2), (right, 4)):
        values, counts = np.unique(offsets, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-padding, padding + 1))
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_half_of_the_images_are_mirrored():
    _, _, mirrored = moves(CropAndFlip(seed=0)(coordinates(5000, 16, 16)).numpy())
    assert scipy.stats.binomtest(int(mirrored.sum()), 5000).pvalue > 1e-3


def test_mirroring_does_not_depend_on_the_offset():
    image, layer = coordinates(1, 16, 16), CropAndFlip(seed=0)
    augment = tf.function(lambda step: layer(image, step=step))
    moved = np.concatenate([augment(step) for step in tf.range(1000, dtype=tf.int64)])
    down, right, mirrored = moves(moved)
    for offsets in (down, right):
        table = [np.bincount(offsets[mirrored == side] + 2, minlength=5) for side in (0, 1)]
        assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_crop_and_flip_can_be_used_apart():
    images = coordinates(200, 16, 16)
    down, right, mirrored = moves(CropAndFlip(flip=False, seed=0)(images).numpy())
    assert not mirrored.any()
    assert np.ptp(down) == np.ptp(right) == 4
    down, right, mirrored = moves(CropAndFlip(crop=0, seed=0)(images).numpy())
    assert mirrored.any()
    assert np.ptp(down) == np.ptp(right) == 0


def test_each_call_seed_and_step_draws_anew_and_repeats():
    images = coordinates(50, 16, 16)
    layer = CropAndFlip(seed=0)
    first, second = layer(images).numpy(), layer(images).numpy()
    assert (first != second).any()
    assert (CropAndFlip(seed=1)(images, step=0).numpy() != first).any()
    np.testing.assert_array_equal(CropAndFlip(seed=0)(images, step=1), second)
    np.testing.assert_array_equal(CropAndFlip(seed=0)(images, step=0), first)


@pytest.mark.parametrize("crop", [-0.1, 1, float("nan")])
def test_crop_out_of_range_is_refused(crop):
    with pytest.raises(ValueError, match=f"crop must be at least 0 and below 1.*crop={crop}"):
        CropAndFlip(crop=crop)
