"""Comparison: means, deviations, paired differences and their intervals."""

import math
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats

from tests.run_folders import make_runs
from tf_cutnmix.reporting import comparison
from tf_cutnmix.reporting.comparison import corrected, interval, p_value, summarise
from tf_cutnmix.reporting.groups import Group, collect

TEACHER = "best_teacher_accuracy"
# Unlike enough for a t test that rounding does not decide.
VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3)


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
    # t(0.975, 2) = 4.3027 of a printed table; the deviation is 0.01.
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert found.interval == pytest.approx((0.02 - half, 0.02 + half), rel=1e-4)
    # t = 0.02 / (0.01 / sqrt 3) = 3.4641; of 2 degrees p = 1 - t / sqrt(2 + t^2).
    assert found.p_value == pytest.approx(1 - 3.4641 / math.sqrt(2 + 12), rel=1e-4)


def test_without_a_common_seed_there_is_no_difference(tmp_path: pathlib.Path) -> None:
    assert comparison.difference(*pair_of_groups(tmp_path, {0: 0.5}, {1: 0.5}), TEACHER) is None


def test_one_common_seed_has_no_interval(tmp_path: pathlib.Path) -> None:
    groups = pair_of_groups(tmp_path, {0: 0.5, 1: 0.7}, {0: 0.4, 2: 0.5})
    found = comparison.difference(*groups, TEACHER)
    assert found == (pytest.approx(0.1), None, None, (0,))


def test_a_figure_that_one_side_lacks_is_no_pair(tmp_path: pathlib.Path) -> None:
    group, baseline = pair_of_groups(tmp_path, {0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.5})
    del baseline.runs[0].figures[TEACHER]
    assert comparison.difference(group, baseline, TEACHER).seeds == (1,)


# Intervals


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("value", [-0.25, 0.0, 0.5])
def test_equal_values_have_a_point_as_interval(value: float, count: int) -> None:
    assert interval([value] * count) == (value, value)
    assert p_value([value] * count) == (0.0 if value else 1.0)


@pytest.mark.parametrize("values", [[], [0.1]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert interval(values) is None
    assert p_value(values) is None


@hypothesis.given(values=VALUES)
def test_intervals_and_p_values_are_those_of_scipy(values: list[float]) -> None:
    expected = scipy.stats.ttest_1samp(values, 0.0)
    low, high = expected.confidence_interval(0.95)
    assert interval(values) == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    assert p_value(values) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_intervals_hold_the_truth_in_95_of_100_cases(count: int) -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0.3, 1.0, (4000, count))
    ends = np.array([interval(sample) for sample in samples])
    assert 0.93 < np.mean((ends[:, 0] <= 0.3) & (ends[:, 1] >= 0.3)) < 0.97


# Many tests


def test_p_values_are_corrected_as_holm_says() -> None:
    # By hand: 0.01 * 4, 0.02 * 3, then 0.03 * 2, which the one before holds up, and 0.5.
    assert corrected([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert corrected([]) == []
    assert corrected([0.7, 0.9]) == [1.0, 1.0]


def test_of_twenty_tests_of_nothing_one_is_found_in_one_of_twenty_tables() -> None:
    generator = np.random.default_rng(0)
    tables = generator.uniform(size=(4000, 20))
    found = np.mean([min(corrected(table)) < 0.05 for table in tables])
    assert 0.04 < found < 0.06
