"""Ratios, partners and boxes: their distributions, and how much boxes overlap."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests import harness
from tests.mixing.batches import (
    sample,
)
from tf_cutnmix.mixing import draws, sampling
from tf_cutnmix.mixing.sampling import Draw

SEEDS = st.integers(0, 2**55 - 1)
STEPS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_ratio_table_is_the_inverse_of_the_beta_distribution(alpha):
    table = draws.beta_quantiles(alpha)
    lower = table[: len(table) // 2]
    levels = (np.arange(len(table)) + 0.5) / len(table)
    cdf = scipy.stats.beta(alpha, alpha).cdf(lower)
    np.testing.assert_allclose(cdf, levels[: len(lower)], rtol=1e-5)
    np.testing.assert_allclose(table + table[::-1], 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_ratios_of_one_batch_are_beta_distributed(alpha):
    reference = scipy.stats.beta(alpha, alpha).rvs(200_000, random_state=0)
    ratios = sample(20_000, 4, 4, alpha=alpha).ratio
    # Beyond float32's last number below 1 lie 2 % of Beta(0.2, 0.2): the reference is rounded.
    assert scipy.stats.ks_2samp(ratios, reference.astype("float32")).pvalue > 1e-3


@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
def test_ratios_of_successive_steps_are_beta_distributed(ratio_per):
    settings = {"alpha": 4.0, "num_peers": 1, "ratio_per": ratio_per}

    def draw(step):
        return sampling.sample(0, step, (2, 4, 4), **settings).ratio[0]

    ratios = harness.drawn(draw, 1000, tf.float32)
    assert scipy.stats.kstest(ratios, scipy.stats.beta(4, 4).cdf).pvalue > 1e-3


def test_ratio_per_batch_shares_the_ratio_but_not_the_corner():
    draw = sample(50, 32, 32, ratio_per="batch")
    assert len(np.unique(draw.ratio)) == 1
    assert len(np.unique(draw.boxes[..., 2:].reshape(-1, 2), axis=0)) == 1
    assert len(np.unique(draw.boxes[..., :2].reshape(-1, 2), axis=0)) > 50


def test_ratio_per_sample_draws_one_for_each():
    assert len(np.unique(sample(50, 32, 32).ratio)) == 50


@given(SEEDS, STEPS, st.integers(0, 50))
def test_partners_are_a_permutation(seed, step, batch):
    partner = sample(batch, 4, 4, seed=seed, step=step).partner
    np.testing.assert_array_equal(np.sort(partner), np.arange(batch))


@given(
    place=st.fixed_dictionaries({"seed": SEEDS, "step": STEPS}),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    num_peers=st.integers(1, 4),
    alpha=st.sampled_from([0.2, 1.0, 4.0]),
    ratio_per=st.sampled_from(["sample", "batch"]),
    regions=st.sampled_from(["uniform", "spread"]),
)
def test_boxes_are_whole_and_of_one_size(place, sides, num_peers, alpha, ratio_per, regions):
    settings = {"alpha": alpha, "ratio_per": ratio_per, "regions": regions}
    draw = sample(50, *sides, num_peers=num_peers, **place, **settings)
    assert draw.boxes.shape == (50, num_peers, 4)
    corners, sizes = draw.boxes[..., :2], draw.boxes[..., 2:]
    assert (corners >= 0).all()
    assert (corners + sizes <= sides).all()
    exact = np.sqrt(1 - draw.ratio.astype("float64"))[:, None] * sides
    no_tie = abs(exact % 1 - 0.5) > 1e-3
    for peer in range(num_peers):
        np.testing.assert_array_equal(sizes[:, peer], sizes[:, 0])
        np.testing.assert_array_equal(sizes[:, peer][no_tie], np.round(exact)[no_tie])


def test_corners_are_uniform_and_independent_between_peers():
    height, width = 4, 6
    boxes = sample(30_000, height, width, seed=1, ratio_per="batch").boxes
    positions = np.array([height, width]) - boxes[0, 0, 2:] + 1
    assert (positions > 1).all(), "choose a seed with a smaller box"
    place = boxes[..., 0] * positions[1] + boxes[..., 1]
    both = np.ravel_multi_index((place[:, 0], place[:, 1]), [positions.prod()] * 2)
    counts = np.bincount(both, minlength=positions.prod() ** 2)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_ratio_partner_and_corner_are_independent():
    def draw(step):
        return sampling.sample(0, step, (2, 32, 32), alpha=1.0, num_peers=1)

    drawn = harness.drawn(draw, 1000, Draw(tf.float32, tf.int32, tf.int32))
    ratio, swapped, boxes = drawn.ratio[:, 0], drawn.partner[:, 0] == 1, drawn.boxes[:, 0, 0]
    top = (boxes[:, 0] + 0.5) / (33 - boxes[:, 2])
    assert scipy.stats.spearmanr(ratio, top).pvalue > 1e-3
    assert scipy.stats.ks_2samp(ratio[swapped], ratio[~swapped]).pvalue > 1e-3
    assert scipy.stats.ks_2samp(top[swapped], top[~swapped]).pvalue > 1e-3


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


def simulated_boxes(batch, side):
    """Uniform boxes of two peers for alpha = 1, where the ratio is uniform, made by NumPy."""
    random = np.random.default_rng(0)
    size = np.round(side * np.sqrt(random.random([batch, 1, 1]))).astype(int)
    corners = random.integers(np.broadcast_to(side - size + 1, [batch, 2, 2]))
    return np.concatenate([corners, np.broadcast_to(size, corners.shape)], axis=-1)


def test_uniform_boxes_overlap_by_half():
    expected = mean_pair_iou(simulated_boxes(200_000, 32))
    assert mean_pair_iou(sample(20_000, 32, 32).boxes) == pytest.approx(expected, abs=0.01)
    assert expected == pytest.approx(0.54, abs=0.005)


@pytest.mark.parametrize("num_peers", [2, 3, 4])
def test_spread_boxes_overlap_less(num_peers):
    uniform = sample(2000, 32, 32, num_peers=num_peers).boxes
    spread = sample(2000, 32, 32, num_peers=num_peers, regions="spread").boxes
    assert mean_pair_iou(spread) < mean_pair_iou(uniform) - 0.05
    np.testing.assert_array_equal(spread[..., 2:], uniform[..., 2:])


def mean_iou_of_pixels(boxes):
    """The mean over samples and pairs of boxes, from the sets of pixels in them."""
    ious = []
    for sample_boxes in boxes:
        sets = [
            set(itertools.product(range(top, top + height), range(left, left + width)))
            for top, left, height, width in sample_boxes
        ]
        pairs = itertools.combinations(sets, 2) if sets[0] else []
        ious += [len(one & two) / len(one | two) for one, two in pairs]
    return np.mean(ious) if ious else 0


@given(
    seed=SEEDS,
    batch=st.integers(1, 6),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    num_peers=st.integers(1, 4),
    alpha=st.sampled_from([1e-6, 0.2, 4.0]),
)
def test_overlap_is_that_of_the_sets_of_pixels(seed, batch, sides, num_peers, alpha):
    draw = sample(batch, *sides, seed=seed, num_peers=num_peers, alpha=alpha)
    overlap = sampling.overlap(draw)
    assert overlap.dtype == "float32"
    assert overlap.shape == []
    assert float(overlap) == pytest.approx(mean_iou_of_pixels(draw.boxes), rel=1e-5)


def test_empty_boxes_do_not_count_as_overlap():
    boxes = np.array([[[0, 0, 2, 2], [0, 1, 2, 2]], [[3, 3, 0, 0]] * 2], "int32")
    draw = Draw(np.ones(2, "float32"), np.arange(2, dtype="int32"), boxes)
    assert float(sampling.overlap(draw)) == pytest.approx(1 / 3)
    assert float(sampling.overlap(draw._replace(boxes=boxes[1:]))) == 0


def test_overlap_compiles_and_is_lower_for_spread_boxes():
    overlap = tf.function(sampling.overlap, jit_compile=True)
    uniform, spread = (sample(500, 32, 32, regions=name) for name in ("uniform", "spread"))
    assert float(overlap(uniform)) == pytest.approx(float(sampling.overlap(uniform)), rel=1e-6)
    assert float(overlap(spread)) < float(overlap(uniform)) - 0.05
