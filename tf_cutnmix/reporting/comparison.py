"""A figure over the seeds of a group, and its difference from a baseline's."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from tf_cutnmix.reporting.groups import Group
from tf_cutnmix.reporting.runs import Run

FEWEST_FOR_INTERVAL = 2


class Summary(NamedTuple):
    """A figure over seeds.

    Attributes:
      mean: over the runs that recorded the figure.
      deviation: standard deviation with ddof=1, None for one run.
      runs: that recorded it.
    """

    mean: float
    deviation: float | None
    runs: int


class Difference(NamedTuple):
    """A group's figure less its baseline's, paired by seed.

    Attributes:
      mean: of the differences.
      interval: 95 % confidence interval of the mean by Student's t; None for too few seeds.
      p_value: of Student's t test against 0, not corrected for the number of tests; likewise.
      seeds: that both groups have.
    """

    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    seeds: tuple[int, ...]


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard deviation of one or more values."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(float(np.mean(values)), deviation, len(values))


def recorded(group: Group, figure: str) -> list[float]:
    """A figure of `Run.figures` of each of a group's runs that has it."""
    values = (run.figures.get(figure) for run in group.runs.values())
    return [value for value in values if value is not None]


def summary(group: Group, figure: str) -> Summary | None:
    """A figure of `Run.figures` over a group's runs; None where no run has it."""
    values = recorded(group, figure)
    return summarise(values) if values else None


def best_run(group: Group) -> Run:
    """The run of a group whose teacher does best on the test split at the best epoch."""
    return max(group.runs.values(), key=lambda run: run.figures["best_teacher_accuracy"] or 0.0)


def difference(group: Group, baseline: Group, figure: str) -> Difference | None:
    """How far a group's figure is above its baseline's; None where no seed has both."""
    differences = {}
    for seed in (seed for seed in group.runs if seed in baseline.runs):
        own, other = (runs[seed].figures.get(figure) for runs in (group.runs, baseline.runs))
        if own is not None and other is not None:
            differences[seed] = own - other
    if not differences:
        return None
    values = list(differences.values())
    mean = float(np.mean(values))
    return Difference(mean, interval(values), p_value(values), tuple(differences))


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean of `values` by Student's t.

    `mean ± t(0.975, n - 1) s / sqrt(n)`, exact for normal values; equal values give a point.

    Returns:
      Its two ends; None for fewer than `FEWEST_FOR_INTERVAL` values.
    """
    if len(values) < FEWEST_FOR_INTERVAL:
        return None
    mean, deviation, count = summarise(values)
    half = scipy.stats.t.ppf(0.975, count - 1) * (deviation or 0.0) / math.sqrt(count)
    return mean - float(half), mean + float(half)


def p_value(values: Sequence[float]) -> float | None:
    """Of Student's t test of the mean of `values` against 0, two-sided; None for too few."""
    if len(values) < FEWEST_FOR_INTERVAL:
        return None
    mean, deviation, count = summarise(values)
    if not deviation:
        return 0.0 if mean else 1.0
    return float(2 * scipy.stats.t.sf(abs(mean) / deviation * math.sqrt(count), count - 1))


def corrected(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, each so large that all may be read at one level (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found, largest = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        found[i] = largest
    return found
