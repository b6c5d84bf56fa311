"""Crops and mirror images: against NumPy, and as often as they should be; augmentations: what
they promise, and their operations against Keras.
"""

import functools

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import harness
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import augment
from tf_cutnmix.mixing.augment import AUGMENTATIONS, Augment, CropAndFlip, shift

NAMES = [name for name in AUGMENTATIONS if name not in ("none", "photo")]


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


def test_layer_passes_the_harness(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 8, 12, 3)).astype("uint8")
    harness.check_layer(CropAndFlip(crop=0.25, seed=3), images, tmp_path)


def test_offsets_are_uniform_up_to_the_padding_of_each_side_and_half_are_mirrored():
    layer = CropAndFlip(crop=0.125, seed=0)
    down, right, mirrored = moves(layer(coordinates(5000, 16, 32)).numpy())
    for offsets, padding in ((down, 2), (right, 4)):
        values, counts = np.unique(offsets, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-padding, padding + 1))
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert scipy.stats.binomtest(int(mirrored.sum()), 5000).pvalue > 1e-3


def test_crop_and_flip_can_be_used_apart_and_are_left_out_outside_training():
    images = coordinates(200, 16, 16)
    down, right, mirrored = moves(CropAndFlip(flip=False, seed=0)(images).numpy())
    assert not mirrored.any()
    assert np.ptp(down) == np.ptp(right) == 4
    down, right, mirrored = moves(CropAndFlip(crop=0, seed=0)(images).numpy())
    assert mirrored.any()
    assert np.ptp(down) == np.ptp(right) == 0
    for layer, training in ((CropAndFlip(0, False, seed=0), True), (CropAndFlip(seed=0), False)):
        np.testing.assert_array_equal(layer(images, training=training), images)
    assert layer.calls == 0


@pytest.mark.parametrize("flip", [True, False])
def test_each_call_seed_and_step_draws_anew_and_repeats(flip):
    images, crop = coordinates(50, 16, 16), 0 if flip else 0.125
    layer = CropAndFlip(crop, flip, seed=0)
    drawn = [layer(images).numpy() for _ in range(2)]
    drawn.append(CropAndFlip(crop, flip, seed=1)(images, step=0).numpy())
    assert len({moved.tobytes() for moved in drawn}) == 3
    for step in (1, 0):
        again = CropAndFlip(crop, flip, seed=0)(images, step=step)
        np.testing.assert_array_equal(again, drawn[step])


@pytest.mark.parametrize("crop", [-0.1, 1, float("nan")])
def test_crop_out_of_range_is_refused(crop):
    with pytest.raises(ValueError, match=f"crop must be at least 0 and below 1.*crop={crop}"):
        CropAndFlip(crop=crop)


# Random resized crops


def stretched(image, top, left, height, width, mirrored):
    """A box in the size of its image by SciPy, at the middles of pixels and at 256ths of them."""
    places = []
    for first, size, length in zip((top, left), (height, width), image.shape, strict=False):
        middles = (np.arange(length) + 0.5) * size / length - 0.5
        places.append(first + np.clip(np.floor(256 * middles) / 256, 0, size - 1))
    grid = np.meshgrid(*places, indexing="ij")
    channels = [scipy.ndimage.map_coordinates(c, grid, order=1) for c in np.moveaxis(image, -1, 0)]
    box = np.stack(channels, axis=-1)
    return box[:, ::-1] if mirrored else box


@given(st.tuples(st.integers(1, 12), st.integers(1, 12)), st.data())
def test_a_box_becomes_as_large_as_its_image(size, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    images = random.integers(0, 256, (3, *size, 2)).astype("float64")
    sizes = random.integers(1, np.array(size) + 1, (3, 2))
    corners = random.integers(0, size - sizes + 1)
    mirrored = random.integers(2, size=3).astype(bool)
    given_boxes = [tf.constant(x, tf.int32) for x in (corners, sizes)]
    for dtype, tolerance in (("float32", 1e-3), ("uint8", 0.501)):
        made = augment.stretch(tf.cast(images, dtype), *given_boxes, tf.constant(mirrored))
        assert made.dtype == dtype
        for k in range(3):
            expected = stretched(images[k], *corners[k], *sizes[k], mirrored[k])
            np.testing.assert_allclose(made[k], expected, rtol=0, atol=tolerance)


def test_resized_crops_pass_the_harness(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 8, 12, 3)).astype("uint8")
    harness.check_layer(augment.ResizedCrop(seed=3), images, tmp_path)


def test_boxes_have_the_areas_and_ratios_of_the_paper_in_any_place_of_the_image():
    sizes = augment.box_sizes(200, 300) / [200, 300]
    areas, ratios = sizes.prod(axis=1), sizes[:, 0] / sizes[:, 1]
    assert (areas.min(), areas.max()) == pytest.approx((0.08, 1), abs=0.01)
    assert (ratios.min(), ratios.max()) == pytest.approx((3 / 4, 4 / 3), abs=0.02)
    assert scipy.stats.kstest(areas[areas < 0.7], "uniform", (0.08, 0.62)).pvalue > 0.01
    assert (augment.box_sizes(1, 1) == 1).all()
    images = np.zeros([4000, 8, 8, 1], "float32")
    images[:, 3, 5] = 1
    seen = augment.ResizedCrop(flip=False, seed=0)(images, step=0).numpy().any(axis=(1, 2, 3))
    assert 0.3 < seen.mean() < 0.9
    whole = np.full([50, 8, 9, 1], 200, "uint8")
    np.testing.assert_array_equal(augment.ResizedCrop(seed=0)(whole, step=0), whole)


# Augmentations


def photos(channels=3):
    """Smooth uint8 images, no two rows, columns or samples alike."""
    places = np.linspace(0, 3, 8 * 16 * 24 * channels)
    waves = np.sin(places.reshape(8, 16, 24, channels) * np.arange(1, 25)[:, None])
    return np.round(127.5 + 127 * waves).astype("uint8")


@pytest.mark.parametrize("name", NAMES)
def test_images_are_a_function_of_seed_and_step_alone(name):
    """Eagerly and in a graph, whatever else draws, and in any global precision."""
    images, steps = photos(), [*range(4), 2**40]
    layer = Augment(name, crop=0, flip=False, seed=5)
    drawn = [layer(images, step=step).numpy() for step in steps]
    assert all(after.shape == images.shape and after.dtype == "uint8" for after in drawn)
    # A chain may hold nothing but operations that leave these images as they are.
    assert sum((after != images).any(axis=(1, 2, 3)).mean() > 0.5 for after in drawn) >= 3
    assert len({after.tobytes() for after in drawn}) >= 4
    assert (Augment(name, 0, False, seed=6)(images, step=0).numpy() != drawn[0]).any()
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(2)
    try:
        keras.config.set_dtype_policy("mixed_float16")
        again = Augment(name, crop=0, flip=False, seed=5)
        in_a_graph = tf.function(lambda step: again(images, step=step))
        repeated = [in_a_graph(tf.constant(step, tf.int64)) for step in reversed(steps)]
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(repeated[::-1], drawn)


@pytest.mark.parametrize("name", NAMES)
def test_floats_of_one_channel_are_kept_in_range(name):
    after = Augment(name, seed=0)(photos(channels=1).astype("float32"), step=3)
    assert after.shape == (8, 16, 24, 1)
    assert after.dtype == "float32"
    assert 0 <= np.min(after) <= np.max(after) <= 255


@pytest.mark.parametrize("name", NAMES)
def test_augmented_images_were_cropped_and_mirrored_before(name):
    images, layer = photos(), Augment(name, crop=0.25, flip=True, seed=2)
    moved = CropAndFlip(0.25, True, seed=2)(images, step=3)
    expected = Augment(name, crop=0, flip=False, seed=2)(moved, step=3)
    np.testing.assert_array_equal(layer(images, step=3), expected)
    np.testing.assert_array_equal(layer(images, training=False), images)
    assert layer.calls == 0
    assert not layer.supports_jit


@pytest.mark.long
@pytest.mark.parametrize("name", ["augmix", "gridmask"])
def test_augmentation_is_saved(name, tmp_path):
    images, layer = photos(), Augment(name, crop=0.25, flip=False, seed=3)
    harness.check_saving(layer, images, tmp_path / "model.keras")
    assert [variable.name for variable in layer.variables] == ["calls"]


# Their operations and draws


@pytest.mark.parametrize("name", augment._SHAPES_AND_TONES + augment._COLOURS)
def test_operation_is_that_of_keras(name):
    images = tf.cast(photos(), tf.float32)
    (operation,) = augment._operations(0.4, [name])
    layer = getattr(keras.layers.RandAugment((0, 255), factor=0.4), name)
    generator = keras.random.SeedGenerator(0)
    # The first seed that is drawn from ours is one higher than the one it begins with.
    generator.state.assign([11, 1])
    transformation = layer.get_random_transformation(images, training=True, seed=generator)
    expected = layer.transform_images(images, transformation)
    np.testing.assert_array_equal(operation(images, tf.constant([11, 0], tf.int64)), expected)


def drawn_with(operations, make, batch, steps, monkeypatch, seed=0):
    """What an augmentation with other operations makes of zeros at each step: `[steps, batch]`."""
    monkeypatch.setattr(augment, "_operations", lambda *_: operations)
    transform, zeros = make(), tf.zeros([batch, 1, 1, 1])
    drawn = harness.drawn(lambda step: transform(zeros, seed, step), steps, tf.float32)
    return drawn.reshape(steps, batch)


def test_randaugment_runs_the_drawn_operations_one_after_the_other(monkeypatch):
    adders = [lambda images, first, k=k: 3 * images + k for k in range(5)]
    drawn = drawn_with(adders, augment.randaugment, 1, 400, monkeypatch).ravel()
    codes, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(codes, sorted({3 * i + k for i in range(5) for k in range(5)}))
    pairs = [sum(3 * i + k == code for i in range(5) for k in range(5)) for code in codes]
    assert scipy.stats.chisquare(counts, np.array(pairs) * 16).pvalue > 1e-3


def test_augmix_mixes_chains_of_all_depths(monkeypatch):
    adder = [lambda images, first: images + 1]
    mixed = drawn_with(adder, lambda: augment.augmix(num_chains=1), 500, 60, monkeypatch)
    depths = [int(np.ceil(values.max() - 0.02)) for values in mixed]
    for depth, values in zip(depths, mixed, strict=True):
        # What is left of the image is of Beta(1, 1), for each sample.
        assert scipy.stats.kstest(values / depth, "uniform").pvalue > 1e-4
    assert scipy.stats.chisquare(np.bincount(depths, minlength=4)[1:]).pvalue > 1e-3


def test_augmix_weights_are_of_a_dirichlet_distribution(monkeypatch):
    adders = [lambda images, first: images + 1, lambda images, first: images + 1000]
    make = functools.partial(augment.augmix, num_chains=2, chain_depth=1)
    random = np.random.default_rng(0)
    changed, weight = random.random([2, 4000])
    # The two chains are of one operation each: of the same, or of one and of the other.
    references = [changed, changed * (weight + 1000 * (1 - weight)), 1000 * changed]
    found = set()
    for mixed in drawn_with(adders, make, 4000, 20, monkeypatch):
        pvalues = [scipy.stats.ks_2samp(mixed, reference).pvalue for reference in references]
        assert max(pvalues) > 1e-3
        found.add(np.argmax(pvalues))
    assert found == {0, 1, 2}


def test_gridmask_blackens_a_quarter_of_the_pixels_in_places_of_each_sample():
    images = np.full([200, 32, 32, 3], 200, "uint8")
    drawn = Augment("gridmask", 0, False, seed=0)(images, step=0).numpy()
    assert set(np.unique(drawn)) == {0, 200}
    black = drawn[..., 0] == 0
    assert len({mask.tobytes() for mask in black}) == 200
    assert black.mean() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("name", ["none", *NAMES])
def test_augmentation_is_built_by_name(name):
    layer = augment.build(name, crop=0.2, flip=False, seed=3)
    expected = {"crop": 0.2, "flip": False, "seed": 3}
    expected |= {} if name == "none" else {"augmentation": name}
    assert layer.get_config() | expected == layer.get_config()
    assert (type(layer) is CropAndFlip) == (name == "none")
    assert augment.build("photo", crop=0, flip=False, seed=3).get_config()["flip"] is False


def test_unknown_augmentation_is_refused_with_a_hint():
    with pytest.raises(InputError, match="unknown --augment 'augmx': did you mean 'augmix'"):
        augment.build("augmx", crop=0, flip=False)
    with pytest.raises(InputError, match="unknown augmentation 'none': one of augmix, gridmask"):
        Augment("none")
