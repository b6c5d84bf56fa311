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
@pytest.mark.parametrize("seed", [0, 2**55 - 1])
def test_compiled_draws_have_the_bits_of_eager_ones(jit_compile, seed):
    def draw(step, size):
        key = draws.key(seed, step, Stream.CORNER)
        several = draws.integers(key, [size, 3], tf.constant([2, 33, 2**31], tf.int64))
        return several, draws.permutation(key, size)

    arguments = tf.constant(10**12, tf.int64), tf.constant(50)
    compiled = tf.function(draw, jit_compile=jit_compile)
    for actual, expected in zip(compiled(*arguments), draw(*arguments), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(SEEDS, STEPS, st.sampled_from(Stream), st.integers(1, 2**31))
def test_integers_lie_below_their_bound(seed, step, stream, bound):
    values = integers(seed, step, stream, [100], bound)
    assert values.dtype == np.int32
    assert values.min() >= 0
    assert values.max() < bound


@given(SEEDS, st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_each_integer_has_its_own_bound(seed, bounds):
    values = integers(seed, shape=[2000, len(bounds)], bound=tf.constant(bounds))
    np.testing.assert_array_equal(values.min(axis=0), 0)
    np.testing.assert_array_equal(values.max(axis=0), np.array(bounds) - 1)


@pytest.mark.parametrize("bound", [2, 3, 10, 33, 1000, 2**16])
def test_integers_of_one_step_are_uniform(bound):
    assert_uniform(np.bincount(integers(shape=[100 * bound], bound=bound), minlength=bound))


def test_integers_are_uniform_over_the_whole_range():
    values = integers(shape=[100_000], bound=2**31)
    assert scipy.stats.kstest(values / 2**31, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("bound", [2, 10])
def test_first_integers_of_successive_steps_are_uniform(bound):

    def draw(step):
        return draws.integers(draws.key(0, step, Stream.RATIO), (), bound)

    values = harness.drawn(draw, 500, tf.int32)
    assert_uniform(np.bincount(values, minlength=bound))


def test_different_seeds_steps_and_streams_draw_different_integers():
    places = itertools.product([0, 1, 255, 256, 2**54], [0, 1, 2**31, 2**32, 2**62], Stream)
    drawn = [tuple(integers(*place, shape=[4])) for place in places]
    assert len(set(drawn)) == len(drawn) == 5 * 5 * len(Stream)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"step": 1}, {"stream": Stream.PARTNER}],
    ids=["seed", "step", "stream"],
)
def test_neighbouring_draws_are_independent(other):
    one, two = integers(shape=[20_000], bound=5), integers(**other, shape=[20_000], bound=5)
    together = np.bincount(5 * one + two, minlength=25).reshape(5, 5)
    assert scipy.stats.chi2_contingency(together).pvalue > 1e-3


@given(SEEDS, STEPS, st.integers(0, 200))
def test_permutation_holds_every_index_once(seed, step, size):
    permutation = draws.permutation(draws.key(seed, step, Stream.PARTNER), size).numpy()
    assert permutation.dtype == np.int32
    np.testing.assert_array_equal(np.sort(permutation), np.arange(size))


def test_permutations_are_uniform():
    def draw(step):
        return draws.permutation(draws.key(0, step, Stream.PARTNER), 3)

    counts = collections.Counter(map(tuple, harness.drawn(draw, 600, tf.int32)))
    assert len(counts) == 6
    assert_uniform(list(counts.values()))


@pytest.mark.parametrize("seed", [-1, 2**55])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must be from 0 to 2.*seed={seed}"):
        draws.SteppedLayer(seed)


def test_largest_seed_is_accepted():
    assert draws.SteppedLayer(2**55 - 1).get_config()["seed"] == 2**55 - 1


def test_seed_none_is_drawn_from_the_random_module():
    def drawn():
        random.seed(3)
        return [draws.SteppedLayer().get_config()["seed"] for _ in range(5)]

    assert drawn() == drawn()
    assert len(set(drawn())) == 5


def test_layer_counts_the_steps_it_is_not_given():
    layer = draws.SteppedLayer(seed=0)
    steps = [int(layer.next_step(step)) for step in (None, None, 7, None)]
    assert steps == [0, 1, 7, 2]
    assert layer.calls.dtype == "int64"
    assert layer.trainable_variables == []


@pytest.mark.parametrize("size", [2**16, 2**20])
def test_a_large_permutation_rises_as_often_as_it_falls(size):
    # Keys of few bits would come in ties, and a sort leaves those in rising order.
    partner = draws.permutation(draws.key(0, 0, Stream.PARTNER), size).numpy()
    rises = np.sum(partner[1:] > partner[:-1])
    mean, deviation = (size - 1) / 2, np.sqrt((size + 1) / 12)
    assert abs(rises - mean) < 5 * deviation
