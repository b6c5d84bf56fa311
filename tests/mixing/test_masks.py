"""The masks of FMix."""

import keras_cv
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tests.mixing.batches import index_images, photos, sample, to_numpy
from tf_cutnmix.mixing import draws, pasting, sampling
from tf_cutnmix.mixing.sampling import MaskDraw


def sample_mask(batch, height, width, *, seed=0, step=0, alpha=1.0, **settings):
    """A draw of FMix as NumPy arrays."""
    draw = sampling.sample_mask(seed, step, (batch, height, width), alpha=alpha, **settings)
    return MaskDraw(*(part.numpy() for part in draw))


def pasted_pixels(draw):
    """How many pixels the ratios of a draw of FMix stand for, unless they tie: then NaN."""
    exact = (1 - draw.ratio.astype("float64")) * draw.mask[0].size
    return np.where(abs(exact % 1 - 0.5) > 1e-3, np.round(exact), np.nan)


def numpy_noise(seed, batch, height, width, decay_power):
    """The paper's low-pass filtered noise, in float64, of the same random integers."""
    key = draws.key(seed, 0, draws.Stream.NOISE)
    integers = draws.integers(key, [2, batch, height, width], 2**16).numpy()
    real, imaginary = scipy.stats.norm.ppf((integers + 0.5) / 2**16)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    return np.fft.ifft2((real + 1j * imaginary) / frequency**decay_power).real


@pytest.mark.parametrize("decay_power", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("sides", [(16, 16), (9, 14), (8, 5), (1, 7)], ids=str)
def test_mask_holds_the_highest_pixels_of_filtered_noise(sides, decay_power):
    draw = sample_mask(64, *sides, seed=3, decay_power=decay_power)
    noise = numpy_noise(3, 64, *sides, decay_power).reshape(64, -1)
    ranks = np.argsort(np.argsort(-noise))
    expected = ranks < draw.mask.sum(axis=(1, 2))[:, None]
    # Nearly equal pixels may be ranked in another order: the transform rounds.
    assert np.mean(draw.mask.reshape(64, -1) != expected) < 1e-3


@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
def test_mask_holds_as_many_pixels_as_the_ratio_says(ratio_per):
    draw = sample_mask(500, 7, 9, ratio_per=ratio_per)
    expected = pasted_pixels(draw)
    known = ~np.isnan(expected)
    assert known.sum() > 400 or ratio_per == "batch"
    np.testing.assert_array_equal(draw.mask.sum(axis=(1, 2))[known], expected[known])
    assert len(np.unique(draw.ratio)) == (500 if ratio_per == "sample" else 1)


def test_mask_holds_as_many_pixels_where_all_are_equal():
    values = tf.constant([[0.0, -0.0, -1.0, 2.0, 2.0]] * 6)
    highest = sampling._highest(values, tf.range(6)).numpy()
    np.testing.assert_array_equal(highest.sum(axis=1), range(6))
    np.testing.assert_array_equal(highest[2], [False, False, False, True, True])
    equal = sampling._highest(tf.zeros([6, 5]), tf.range(6)).numpy()
    np.testing.assert_array_equal(equal.sum(axis=1), range(6))


@pytest.mark.long
def test_mask_is_the_same_under_xla_but_for_near_ties():
    def draw(step):
        return sampling.sample_mask(0, step, (32, 32, 32), alpha=1.0)

    step = tf.constant(7, tf.int64)
    compiled, eager = (
        to_numpy(how(step)._asdict()) for how in (tf.function(draw, jit_compile=True), draw)
    )
    np.testing.assert_array_equal(compiled["ratio"], eager["ratio"])
    np.testing.assert_array_equal(compiled["partner"], eager["partner"])
    one, other = compiled["mask"], eager["mask"]
    np.testing.assert_array_equal(one.sum(axis=(1, 2)), other.sum(axis=(1, 2)))
    assert (one != other).sum(axis=(1, 2)).max() <= 4


def test_ratios_and_partners_of_masks_are_those_of_boxes():
    boxes, masks = sample(40, 6, 6, alpha=0.3), sample_mask(40, 6, 6, alpha=0.3)
    np.testing.assert_array_equal(boxes.ratio, masks.ratio)
    np.testing.assert_array_equal(boxes.partner, masks.partner)


def test_every_pixel_is_pasted_as_often():
    masks = sample_mask(4000, 5, 6, ratio_per="batch").mask
    share = masks[0].mean()
    assert 0.2 < share < 0.8, "choose another seed"
    deviation = np.sqrt(share * (1 - share) / len(masks))
    assert abs(masks.mean(axis=0) - share).max() < 4 * deviation


def boundary(masks):
    """The part of neighbouring pixels that differ, of each mask `[B, H, W]`."""
    down, right = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
    return (down.mean(axis=(1, 2)) + right.mean(axis=(1, 2))) / 2


def test_masks_have_the_boundaries_of_those_of_keras_cv():
    # At other decay powers theirs differ: real and imaginary parts are read from two rows.
    images, one_hot = index_images(400, 32, 32, "float32"), np.eye(400, dtype="float32")
    layer = keras_cv.layers.FourierMix(alpha=1.0, decay_power=3, seed=0)
    dataset = tf.data.Dataset.from_tensors({"images": images, "labels": one_hot})
    (mixed,) = dataset.map(lambda batch: layer(batch, training=True))
    theirs = mixed["images"].numpy()[..., 0] != images[..., 0]
    means = []
    for drawn in (sample_mask(400, 32, 32, decay_power=3.0).mask, theirs):
        halves = drawn[abs(drawn.mean(axis=(1, 2)) - 0.5) < 0.25]
        assert len(halves) > 150
        means.append(boundary(halves).mean())
    assert means[0] == pytest.approx(means[1], rel=0.1)


def test_higher_decay_makes_smoother_masks():
    lengths = [boundary(sample_mask(100, 16, 16, decay_power=d).mask).mean() for d in (0, 1, 3)]
    assert lengths[0] > 1.5 * lengths[1] > 2 * lengths[2]


def test_mask_selects_the_pixels_that_numpy_does():
    images, draw = photos()["images"], sample_mask(6, 5, 8)
    pasted = pasting.paste_mask(tf.constant(images), draw)
    expected = np.where(draw.mask[..., None], images[draw.partner], images)
    assert pasted.dtype == "uint8"
    np.testing.assert_array_equal(pasted, expected)
