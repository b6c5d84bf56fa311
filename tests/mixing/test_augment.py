"""Crops and mirror images: against NumPy, and as often as they should be; augmentations: what
they promise, and their operations against Keras.
"""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import harness
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import augment
from tf_cutnmix.mixing.augment import AUGMENTATIONS, Augment, CropAndFlip, shift

NAMES = [name for name in AUGMENTATIONS if name != "none"]


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
    moved = harness.drawn(lambda step: layer(image, step=step)[0], 1000, tf.int32)
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


# Augmentations


def photos(size=8, height=16, width=24, channels=3):
    """Smooth uint8 images, no two rows, columns or samples alike."""
    places = np.linspace(0, 3, size * height * width * channels)
    waves = np.sin(places.reshape(size, height, width, channels) * np.arange(1, width + 1)[:, None])
    return np.round(127.5 + 127 * waves).astype("uint8")


def at_steps(layer, images, steps):
    return [layer(images, training=True, step=step).numpy() for step in steps]


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_dtype_are_kept_and_something_changes(name):
    images = photos()
    layer = Augment(name, crop=0, flip=False, seed=0)
    drawn = at_steps(layer, images, range(8))
    assert all(after.shape == images.shape and after.dtype == "uint8" for after in drawn)
    # A chain may hold nothing but operations that leave these images as they are.
    assert sum((after != images).any(axis=(1, 2, 3)).mean() > 0.5 for after in drawn) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_floats_are_kept_in_range(name):
    (after,) = at_steps(Augment(name, seed=0), photos().astype("float32"), [3])
    assert after.dtype == "float32"
    assert after.min() >= 0
    assert after.max() <= 255


@pytest.mark.parametrize("name", NAMES)
def test_images_of_one_channel_are_augmented(name):
    images = photos(channels=1)
    drawn = at_steps(Augment(name, seed=0), images, range(4))
    assert all(after.shape == images.shape for after in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_a_function_of_seed_and_step(name):
    images, steps = photos(), [0, 1, 2**40, 1, 0]
    drawn = at_steps(Augment(name, seed=5), images, steps)
    again = at_steps(Augment(name, seed=5), images, steps[::-1])[::-1]
    np.testing.assert_array_equal(drawn, again)
    np.testing.assert_array_equal(drawn[0], drawn[4])
    np.testing.assert_array_equal(drawn[1], drawn[3])
    assert len({after.tobytes() for after in drawn}) == 3
    (other,) = at_steps(Augment(name, seed=6), images, [0])
    assert (other != drawn[0]).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_augments_as_eager_execution_does(name):
    layer, images = Augment(name, seed=1), photos()
    function = tf.function(lambda step: layer(images, training=True, step=step))
    graph = [function(tf.constant(step, tf.int64)) for step in range(5)]
    np.testing.assert_array_equal(graph, at_steps(layer, images, range(5)))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_random_module_and_keras_draw_does_not_matter(name):
    images = photos()
    drawn = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(at_steps(Augment(name, seed=0), images, range(3)))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("name", NAMES)
def test_augmented_images_were_cropped_and_mirrored_before(name):
    images, augmented = photos(), Augment(name, crop=0.25, flip=True, seed=2)
    moved = CropAndFlip(0.25, True, seed=2)(images, step=3)
    still = Augment(name, crop=0, flip=False, seed=2)
    (expected,) = at_steps(still, moved.numpy(), [3])
    (actual,) = at_steps(augmented, images, [3])
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", NAMES)
def test_outside_training_nothing_is_augmented(name):
    images, layer = photos(), Augment(name, seed=0)
    np.testing.assert_array_equal(layer(images, training=False), images)
    assert layer.calls == 0


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_augmentation_is_saved_and_ignores_the_precision(name, tmp_path):
    images, layer = photos(), Augment(name, crop=0.25, flip=False, seed=3)
    harness.check_config(layer, images)
    harness.check_saving(layer, images, tmp_path / "model.keras")
    harness.check_mixed_precision(layer, images)
    assert [variable.name for variable in layer.variables] == ["calls"]


@pytest.mark.parametrize("name", NAMES)
def test_global_precision_does_not_matter(name):
    images = photos()
    expected = at_steps(Augment(name, seed=0), images, range(3))
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        actual = at_steps(Augment(name, seed=0), images, range(3))
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.long
@pytest.mark.parametrize("name", ["augmix", "randaugment"])
def test_a_parallel_map_repeats_a_serial_one(name):
    layer, images = Augment(name, seed=0), photos()
    dataset = tf.data.Dataset.range(12)

    def augmented(calls):
        return list(dataset.map(lambda step: layer(images, step=step), calls).as_numpy_iterator())

    np.testing.assert_array_equal(augmented(8), augmented(None))


@pytest.mark.long
def test_only_crops_and_mirror_images_compile():
    assert CropAndFlip().supports_jit
    for name in NAMES:
        layer = Augment(name, seed=0)
        assert not layer.supports_jit
        with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
            tf.function(layer, jit_compile=True)(photos(), step=0)


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


def test_randaugment_runs_the_drawn_operations_one_after_the_other(monkeypatch):
    adders = [lambda images, first, k=k: 3 * images + k for k in range(5)]
    monkeypatch.setattr(augment, "_operations", lambda factor, names: adders)
    transform = augment.randaugment(num_ops=2)
    zeros = tf.zeros([1, 1, 1, 1])
    drawn = harness.drawn(lambda step: transform(zeros, 0, step), 400, tf.float32).ravel()
    codes, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(codes, sorted({3 * i + k for i in range(5) for k in range(5)}))
    pairs = [sum(3 * i + k == code for i in range(5) for k in range(5)) for code in codes]
    assert scipy.stats.chisquare(counts, np.array(pairs) * 16).pvalue > 1e-3


def test_augmix_mixes_chains_of_all_depths(monkeypatch):
    monkeypatch.setattr(augment, "_operations", lambda *_: [lambda images, first: images + 1])
    transform = augment.augmix(num_chains=1, chain_depth=3)
    zeros = tf.zeros([500, 1, 1, 1])
    mixed = harness.drawn(lambda step: transform(zeros, 0, step), 60, tf.float32)
    mixed = mixed.reshape(60, 500)
    depths = [int(np.ceil(values.max() - 0.02)) for values in mixed]
    for depth, values in zip(depths, mixed, strict=True):
        # What is left of the image is of Beta(1, 1), for each sample.
        assert scipy.stats.kstest(values / depth, "uniform").pvalue > 1e-4
    assert scipy.stats.chisquare(np.bincount(depths, minlength=4)[1:]).pvalue > 1e-3


def test_augmix_weights_are_of_a_dirichlet_distribution(monkeypatch):
    adders = [lambda images, first: images + 1, lambda images, first: images + 1000]
    monkeypatch.setattr(augment, "_operations", lambda *_: adders)
    transform = augment.augmix(num_chains=2, chain_depth=1)
    random = np.random.default_rng(0)
    changed, weight = random.random([2, 4000])
    # The two chains are of one operation each: of the same, or of one and of the other.
    references = [changed, changed * (weight + 1000 * (1 - weight)), 1000 * changed]
    zeros = tf.zeros([4000, 1, 1, 1])
    found = set()
    for mixed in harness.drawn(lambda step: transform(zeros, 0, step), 20, tf.float32):
        mixed = np.ravel(mixed)
        pvalues = [scipy.stats.ks_2samp(mixed, reference).pvalue for reference in references]
        assert max(pvalues) > 1e-3
        found.add(np.argmax(pvalues))
    assert found == {0, 1, 2}


def test_gridmask_blackens_a_quarter_of_the_pixels_in_places_of_each_sample():
    images = np.full([200, 32, 32, 3], 200, "uint8")
    drawn, again = at_steps(Augment("gridmask", 0, False, seed=0), images, [0, 0])
    np.testing.assert_array_equal(drawn, again)
    assert set(np.unique(drawn)) == {0, 200}
    black = drawn[..., 0] == 0
    assert len({mask.tobytes() for mask in black}) == 200
    assert black.mean() == pytest.approx(0.25, abs=0.1)


# Augmentations by name


def test_none_is_crops_and_mirror_images_alone():
    layer = augment.build("none", crop=0.2, flip=False, seed=3)
    assert type(layer) is CropAndFlip
    expected = {"crop": 0.2, "flip": False, "seed": 3}
    assert layer.get_config() | expected == layer.get_config()


@pytest.mark.parametrize("name", NAMES)
def test_augmentation_is_built_by_name(name):
    layer = augment.build(name, crop=0.2, flip=False, seed=3)
    expected = {"augmentation": name, "crop": 0.2, "flip": False, "seed": 3}
    assert layer.get_config() | expected == layer.get_config()


def test_unknown_augmentation_is_refused_with_a_hint():
    with pytest.raises(InputError, match="unknown --augment 'augmx': did you mean 'augmix'"):
        augment.build("augmx", crop=0, flip=False)
    with pytest.raises(InputError, match="unknown augmentation 'none': one of augmix, gridmask"):
        Augment("none")
