"""Draws are uniform, independent of each other, and a function of (seed, step, stream) alone."""

import collections
import itertools
import random

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests import harness
from tf_cutnmix.mixing import draws
from tf_cutnmix.mixing.draws import Stream

SEEDS = st.integers(0, 2**55 - 1)
STEPS = st.integers(0, 2**63 - 1)


def integers(seed=0, step=0, stream=Stream.RATIO, shape=(), bound=2**31):
    return draws.integers(draws.key(seed, step, stream), shape, bound).numpy()


def assert_uniform(counts):
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_compiled_draws_have_the_bits_of_eager_ones(jit_compile):
    def draw(seed, step, size):
        key = draws.key(seed, step, Stream.CORNER)
        several = draws.integers(key, [size, 3], tf.constant([2, 33, 2**31], tf.int64))
        return several, draws.permutation(key, size)

    compiled = tf.function(draw, jit_compile=jit_compile)
    for seed in (0, 2**55 - 1):
        arguments = tf.constant(10**12, tf.int64), tf.constant(50)
        found = compiled(tf.constant(seed, tf.int64), *arguments)
        for actual, expected in zip(found, draw(seed, *arguments), strict=True):
            np.testing.assert_array_equal(actual, expected)


@given(SEEDS, STEPS, st.sampled_from(Stream), st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_each_integer_lies_below_its_own_bound(seed, step, stream, bounds):
    values = integers(seed, step, stream, [2000, len(bounds)], tf.constant(bounds))
    assert values.dtype == np.int32
    np.testing.assert_array_equal(values.min(axis=0), 0)
    np.testing.assert_array_equal(values.max(axis=0), np.array(bounds) - 1)


@pytest.mark.parametrize("bound", [3, 1000, 2**31])
def test_integers_of_one_step_and_of_successive_steps_are_uniform(bound):
    def draw(step):
        return draws.integers(draws.key(0, step, Stream.RATIO), (), bound)

    for values in (integers(shape=[100_000], bound=bound), harness.drawn(draw, 1000, tf.int32)):
        assert_uniform(np.histogram(values, min(bound, 100), (0, bound))[0])


def test_different_seeds_steps_and_streams_draw_different_integers():
    places = itertools.product([0, 1, 255, 256, 2**54], [0, 1, 2**31, 2**32, 2**62], Stream)
    drawn = [tuple(integers(*place, shape=[4])) for place in places]
    assert len(set(drawn)) == len(drawn) == 5 * 5 * len(Stream)


def test_permutations_are_uniform():
    def draw(step):
        return draws.permutation(draws.key(0, step, Stream.PARTNER), 3)

    counts = collections.Counter(map(tuple, harness.drawn(draw, 600, tf.int32)))
    assert len(counts) == 6
    assert_uniform(list(counts.values()))


def test_a_large_permutation_rises_as_often_as_it_falls():
    # Keys of few bits would come in ties, and a sort leaves those in rising order.
    size = 2**18
    partner = draws.permutation(draws.key(0, 0, Stream.PARTNER), size).numpy()
    rises = np.sum(partner[1:] > partner[:-1])
    mean, deviation = (size - 1) / 2, np.sqrt((size + 1) / 12)
    assert abs(rises - mean) < 5 * deviation


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_ratio_table_is_the_inverse_of_the_beta_distribution(alpha):
    (*ratios, last), (*rests, left) = draws.beta_quantiles(alpha)
    levels = (np.arange(2**16) + 0.5) / 2**16
    for values in (ratios, rests[::-1]):
        cdf = scipy.stats.beta(alpha, alpha).cdf(values[: 2**15])
        np.testing.assert_allclose(cdf, levels[: 2**15], rtol=1e-5)
    np.testing.assert_allclose(np.add(ratios, rests), 1, rtol=1e-6)
    assert (last, left) == (1, 0)


@pytest.mark.parametrize("seed", [-1, 2**55, 1.5])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must be from 0 to 2.*seed={seed}"):
        draws.SteppedLayer(seed)


def test_seed_none_is_drawn_from_the_random_module():
    def drawn():
        random.seed(3)
        return [draws.SteppedLayer().get_config()["seed"] for _ in range(5)]

    assert drawn() == drawn()
    assert len(set(drawn())) == 5


def test_layer_counts_the_steps_it_is_not_given():
    layer = draws.SteppedLayer(seed=2**55 - 1)
    steps = [int(layer.next_step(step)) for step in (None, None, 7, None)]
    assert steps == [0, 1, 7, 2]
    assert layer.calls.dtype == "int64"
    assert layer.trainable_variables == []
