"""What is drawn, boxes and masks: their distributions, what is pasted by them, their overlap."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import harness
from tests.mixing.batches import draw
from tf_cutnmix import CutNMix, FMix
from tf_cutnmix.mixing import draws, sampling
from tf_cutnmix.mixing.sampling import Draw

SEEDS = st.integers(0, 2**55 - 1)
STEPS = st.integers(0, 2**63 - 1)
# So sharp a distribution that every ratio is 1/2, and all boxes and masks are of one size.
ALWAYS_HALF = 1e12


@pytest.mark.parametrize("settings", [{}, {"regions": "spread"}, {"layer": FMix}], ids=str)
def test_each_part_of_a_draw_follows_the_step_and_the_seed(settings):
    places = [{}, {"step": 1}, {"step": 2**40}, {"seed": 1}, {"seed": 2}]
    drawn = [draw(40, 8, 8, **place, **settings) for place in places]
    assert len({ratio.tobytes() for ratio, _, _ in drawn}) == 5
    drawn = [draw(40, 8, 8, alpha=ALWAYS_HALF, **place, **settings) for place in places]
    assert len({partner.tobytes() for _, partner, _ in drawn}) == 5
    assert len({region.tobytes() for _, _, region in drawn}) == 5


def test_ratios_partners_and_corners_of_successive_steps_are_as_they_should_be():
    layer = CutNMix(1, alpha=4.0, ratio_per="batch", seed=0)
    types = Draw(tf.float32, tf.int32, tf.int32)
    drawn = harness.drawn(lambda step: layer.draw(step, (2, 32, 32)), 1000, types)
    ratio, swapped, boxes = drawn.ratio[:, 0], drawn.partner[:, 0] == 1, drawn.boxes[:, 0, 0]
    assert scipy.stats.kstest(ratio, scipy.stats.beta(4, 4).cdf).pvalue > 1e-3
    top = (boxes[:, 0] + 0.5) / (33 - boxes[:, 2])
    assert scipy.stats.spearmanr(ratio, top).pvalue > 1e-3
    assert scipy.stats.ks_2samp(ratio[swapped], ratio[~swapped]).pvalue > 1e-3
    assert scipy.stats.ks_2samp(top[swapped], top[~swapped]).pvalue > 1e-3


@given(st.lists(st.booleans(), min_size=1, max_size=30).map(np.array), SEEDS)
def test_samples_with_and_without_labels_are_mixed_apart(has_label, seed):
    labels = has_label[:, None] * np.float32([0.25, 0, 0.75])
    drawn = draw(len(labels), 8, 8, seed=seed)
    found = sampling.apart(drawn, labels)
    partner = found.partner.numpy()
    assert sorted(partner) == list(range(len(labels)))
    np.testing.assert_array_equal(has_label[partner], has_label)
    if has_label.all() or not has_label.any():
        np.testing.assert_array_equal(partner, drawn.partner)
    # Within a kind the partners come in the order in which they were drawn.
    np.testing.assert_array_equal(partner[has_label], drawn.partner[has_label[drawn.partner]])
    assert all(one is other for one, other in zip(found[::2], drawn[::2], strict=True))


def test_ratio_per_batch_shares_the_ratio_but_not_the_corner():
    drawn = draw(50, 32, 32, ratio_per="batch")
    assert len(np.unique(drawn.ratio)) == 1
    assert len(np.unique(drawn.boxes[..., 2:].reshape(-1, 2), axis=0)) == 1
    assert len(np.unique(drawn.boxes[..., :2].reshape(-1, 2), axis=0)) > 50
    assert len(np.unique(draw(50, 32, 32).ratio)) == 50


@given(
    place=st.fixed_dictionaries({"seed": SEEDS, "step": STEPS}),
    batch=st.integers(0, 50),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    num_peers=st.integers(1, 4),
    settings=st.fixed_dictionaries(
        {
            "alpha": st.sampled_from([0.2, 1.0, 4.0]),
            "ratio_per": st.sampled_from(["sample", "batch"]),
            "regions": st.sampled_from(["uniform", "spread"]),
        }
    ),
)
def test_boxes_are_whole_and_of_one_size(place, batch, sides, num_peers, settings):
    drawn = draw(batch, *sides, num_peers=num_peers, **place, **settings)
    np.testing.assert_array_equal(np.sort(drawn.partner), np.arange(batch))
    assert drawn.boxes.shape == (batch, num_peers, 4)
    corners, sizes = drawn.boxes[..., :2], drawn.boxes[..., 2:]
    assert (corners >= 0).all()
    assert (corners + sizes <= sides).all()
    exact = np.sqrt(1 - drawn.ratio.astype("float64"))[:, None] * sides
    no_tie = abs(exact % 1 - 0.5) > 1e-3
    for peer in range(num_peers):
        np.testing.assert_array_equal(sizes[:, peer], sizes[:, 0])
        np.testing.assert_array_equal(sizes[:, peer][no_tie], np.round(exact)[no_tie])


def test_corners_are_uniform_and_independent_between_peers():
    height, width = 4, 6
    boxes = draw(30_000, height, width, seed=1, ratio_per="batch").boxes
    positions = np.array([height, width]) - boxes[0, 0, 2:] + 1
    assert (positions > 1).all(), "choose a seed with a smaller box"
    place = boxes[..., 0] * positions[1] + boxes[..., 1]
    both = np.ravel_multi_index((place[:, 0], place[:, 1]), [positions.prod()] * 2)
    counts = np.bincount(both, minlength=positions.prod() ** 2)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_which_samples_are_mixed_follows_the_step_alike_everywhere():
    layer = CutNMix(seed=0, probability=0.5)

    def unmixed(step):
        return layer.draw(step, (400, 4, 4)).ratio == 1

    found = [unmixed(tf.constant(step)) for step in (3, 4)]
    assert 0.4 < np.mean(found) < 0.6
    assert not np.array_equal(*found)
    for jit in (False, True):
        compiled = tf.function(unmixed, jit_compile=jit)
        np.testing.assert_array_equal(compiled(tf.constant(3)), found[0])


# Pasting


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
    images, drawn = arguments
    expected = np.repeat(images[:, None], drawn.boxes.shape[1], axis=1)
    for i, peer in np.ndindex(drawn.boxes.shape[:2]):
        top, left, height, width = drawn.boxes[i, peer]
        box = np.s_[top : top + height, left : left + width]
        expected[i, peer][box] = images[drawn.partner[i]][box]
    views = sampling.paste(tf.constant(images), Draw(*map(tf.constant, drawn))).numpy()
    assert views.dtype == images.dtype
    assert views.shape == expected.shape
    assert views.tobytes() == expected.tobytes()


# Overlap


def mean_pair_iou(boxes):
    """The mean intersection over union of the pairs of boxes `[B, n, 4]` of an image."""
    ends = boxes[..., :2] + boxes[..., 2:]
    ious = []
    for one, two in itertools.combinations(range(boxes.shape[1]), 2):
        low = np.maximum(boxes[:, one, :2], boxes[:, two, :2])
        shared = np.maximum(np.minimum(ends[:, one], ends[:, two]) - low, 0).prod(axis=-1)
        area = boxes[:, one, 2:].prod(axis=-1) + boxes[:, two, 2:].prod(axis=-1)
        ious.append(shared[area > 0] / (area - shared)[area > 0])
    return np.mean(ious)


def test_uniform_boxes_overlap_by_half():
    """As much as those that NumPy makes for alpha = 1, where the ratio is uniform."""
    random = np.random.default_rng(0)
    size = np.round(32 * np.sqrt(random.random([200_000, 1, 1]))).astype(int)
    corners = random.integers(np.broadcast_to(32 - size + 1, [200_000, 2, 2]))
    boxes = np.concatenate([corners, np.broadcast_to(size, corners.shape)], axis=-1)
    expected = mean_pair_iou(boxes)
    assert mean_pair_iou(draw(20_000, 32, 32).boxes) == pytest.approx(expected, abs=0.01)
    assert expected == pytest.approx(0.54, abs=0.005)


@pytest.mark.parametrize("num_peers", [2, 4])
def test_spread_boxes_overlap_less(num_peers):
    uniform = draw(2000, 32, 32, num_peers=num_peers).boxes
    spread = draw(2000, 32, 32, num_peers=num_peers, regions="spread").boxes
    assert mean_pair_iou(spread) < mean_pair_iou(uniform) - 0.05
    np.testing.assert_array_equal(spread[..., 2:], uniform[..., 2:])


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("alpha", [1e-6, 0.2, 4.0])
def test_overlap_is_the_mean_of_all_pairs_of_boxes_that_are_not_empty(alpha, jit_compile):
    overlap = tf.function(sampling.overlap, jit_compile=jit_compile)
    for num_peers in (1, 2, 4):
        drawn = draw(20, 9, 7, num_peers=num_peers, alpha=alpha)
        several = num_peers > 1 and drawn.boxes[..., 2:].any()
        expected = mean_pair_iou(drawn.boxes) if several else 0
        assert float(overlap(drawn)) == pytest.approx(expected, rel=1e-5)
    empty = drawn._replace(boxes=np.zeros_like(drawn.boxes))
    assert float(overlap(empty)) == 0


# Masks


def numpy_noise(seed, batch, height, width, decay_power):
    """The paper's low-pass filtered noise, in float64, of the same random integers."""
    key = draws.key(seed, 0, draws.Stream.NOISE)
    integers = draws.integers(key, [2, batch, height, width], 2**16).numpy()
    real, imaginary = scipy.stats.norm.ppf((integers + 0.5) / 2**16)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    return np.fft.ifft2((real + 1j * imaginary) / frequency**decay_power).real


@pytest.mark.parametrize("decay_power", [0.0, 3.0])
@pytest.mark.parametrize("sides", [(16, 16), (9, 14), (1, 7)], ids=str)
def test_mask_holds_the_highest_pixels_of_filtered_noise(sides, decay_power):
    drawn = draw(64, *sides, layer=FMix, seed=3, decay_power=decay_power)
    noise = numpy_noise(3, 64, *sides, decay_power).reshape(64, -1)
    ranks = np.argsort(np.argsort(-noise))
    expected = ranks < drawn.mask.sum(axis=(1, 2))[:, None]
    # Nearly equal pixels may be ranked in another order: the transform rounds.
    assert np.mean(drawn.mask.reshape(64, -1) != expected) < 1e-3


@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
def test_mask_holds_as_many_pixels_as_the_ratio_says(ratio_per):
    drawn = draw(500, 7, 9, layer=FMix, ratio_per=ratio_per)
    exact = (1 - drawn.ratio.astype("float64")) * 63
    no_tie = abs(exact % 1 - 0.5) > 1e-3
    np.testing.assert_array_equal(drawn.mask.sum(axis=(1, 2))[no_tie], np.round(exact)[no_tie])
    boxes = draw(500, 7, 9, ratio_per=ratio_per)
    np.testing.assert_array_equal(boxes.ratio, drawn.ratio)
    np.testing.assert_array_equal(boxes.partner, drawn.partner)


def test_mask_holds_as_many_pixels_where_all_are_equal():
    values = tf.constant([[0.0, -0.0, -1.0, 2.0, 2.0]] * 6)
    highest = sampling._highest(values, tf.range(6)).numpy()
    np.testing.assert_array_equal(highest.sum(axis=1), range(6))
    np.testing.assert_array_equal(highest[2], [False, False, False, True, True])
    equal = sampling._highest(tf.zeros([6, 5]), tf.range(6)).numpy()
    np.testing.assert_array_equal(equal.sum(axis=1), range(6))


@pytest.mark.long
def test_mask_is_the_same_under_xla_but_for_near_ties():
    layer, step = FMix(seed=0), tf.constant(7, tf.int64)
    eager = layer.draw(step, (32, 32, 32))
    compiled = tf.function(lambda at: layer.draw(at, (32, 32, 32)), jit_compile=True)(step)
    np.testing.assert_array_equal(compiled.ratio, eager.ratio)
    np.testing.assert_array_equal(compiled.partner, eager.partner)
    one, other = compiled.mask.numpy(), eager.mask.numpy()
    np.testing.assert_array_equal(one.sum(axis=(1, 2)), other.sum(axis=(1, 2)))
    assert (one != other).sum(axis=(1, 2)).max() <= 4
