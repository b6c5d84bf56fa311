"""Comparison: means, deviations, paired differences and their intervals."""

import itertools
import math
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.run_folders import make_runs
from tf_cutnmix.reporting import comparison
from tf_cutnmix.reporting.comparison import Difference, bootstrap_interval, summarise
from tf_cutnmix.reporting.groups import Group, collect

TEACHER = "best_teacher_accuracy"
VALUES = st.lists(st.floats(-1, 1), min_size=3, max_size=12)


def pair_of_groups(
    folder: pathlib.Path, own: dict[int, float], other: dict[int, float]
) -> tuple[Group, Group]:
    """Two groups whose teachers have these accuracies, by seed."""
    contents = [{"method": "cutnmix", "seed": s, "teacher": a} for s, a in own.items()]
    contents += [{"method": "independent", "seed": s, "teacher": a} for s, a in other.items()]
    baseline, group = collect(make_runs(folder, *contents)).groups
    return group, baseline


def test_a_summary_is_mean_and_sample_deviation() -> None:
    # Deviations from 5: -3 -1 -1 -1 0 0 2 4; squares sum to 32, over 7.
    found = summarise([2, 4, 4, 4, 5, 5, 7, 9])
    assert found == pytest.approx((5.0, math.sqrt(32 / 7), 8))


def test_one_run_has_no_deviation() -> None:
    assert summarise([0.25]) == (0.25, None, 1)


def test_a_summary_is_over_the_runs_that_have_the_figure(tmp_path: pathlib.Path) -> None:
    contents = [{"seed": seed, "teacher": 0.1 * (seed + 1)} for seed in range(3)]
    contents[2]["test"] = {"distance": 0.5}
    (group,) = collect(make_runs(tmp_path, *contents)).groups
    assert comparison.summary(group, TEACHER) == pytest.approx((0.2, 0.1, 3))
    assert comparison.summary(group, "best_distance") == (0.5, None, 1)
    assert comparison.summary(group, "peak_memory_bytes") is None
    assert comparison.summary(group, "region_overlap") is None


def test_a_difference_is_paired_by_seed(tmp_path: pathlib.Path) -> None:
    own = {0: 0.50, 1: 0.62, 2: 0.71, 8: 0.99}
    other = {0: 0.49, 1: 0.60, 2: 0.68, 9: 0.01}
    found = comparison.difference(*pair_of_groups(tmp_path, own, other), TEACHER)
    assert found.mean == pytest.approx(0.02)
    assert found.seeds == (0, 1, 2)
    assert found.interval == pytest.approx((0.01, 0.03))
    assert found.excludes_zero


def test_without_a_common_seed_there_is_no_difference(tmp_path: pathlib.Path) -> None:
    assert comparison.difference(*pair_of_groups(tmp_path, {0: 0.5}, {1: 0.5}), TEACHER) is None


def test_two_common_seeds_have_no_interval(tmp_path: pathlib.Path) -> None:
    groups = pair_of_groups(tmp_path, {0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.5})
    found = comparison.difference(*groups, TEACHER)
    assert found.mean == pytest.approx(0.15)
    assert found.interval is None
    assert not found.excludes_zero


def test_a_figure_that_one_side_lacks_is_no_pair(tmp_path: pathlib.Path) -> None:
    group, baseline = pair_of_groups(tmp_path, {0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.5})
    del baseline.runs[0].figures[TEACHER]
    assert comparison.difference(group, baseline, TEACHER).seeds == (1,)


@pytest.mark.parametrize(
    ("interval", "excludes"),
    [((0.1, 0.2), True), ((-0.2, -0.1), True), ((-0.1, 0.1), False), ((0.0, 0.1), False)],
)
def test_an_interval_excludes_zero_if_it_lies_on_one_side(
    interval: tuple[float, float], excludes: bool
) -> None:
    assert Difference(0.0, interval, (0, 1, 2)).excludes_zero is excludes


# Intervals


@pytest.mark.parametrize("count", [3, 4, 10])
@pytest.mark.parametrize("value", [-0.25, 0.0, 0.5])
def test_equal_values_have_a_point_as_interval(value: float, count: int) -> None:
    assert bootstrap_interval([value] * count) == (value, value)


@hypothesis.given(values=VALUES)
def test_an_interval_holds_the_mean_and_stays_in_the_range(values: list[float]) -> None:
    low, high = bootstrap_interval(values)
    assert min(values) - 1e-12 <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= max(values) + 1e-12


def test_the_interval_of_three_values_is_their_range() -> None:
    assert bootstrap_interval([0.3, -0.1, 0.7]) == pytest.approx((-0.1, 0.7))


def test_an_interval_has_the_ends_of_all_resamples() -> None:
    values = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0]
    means = [np.mean(resample) for resample in itertools.product(values, repeat=len(values))]
    assert bootstrap_interval(values) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.35)


def test_an_interval_is_the_same_in_every_call() -> None:
    values = list(np.random.default_rng(1).normal(size=7))
    assert bootstrap_interval(values) == bootstrap_interval(values)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2]])
def test_fewer_than_three_values_have_no_interval(values: list[float]) -> None:
    assert bootstrap_interval(values) is None
