"""A figure over the seeds of a group, and its difference from a baseline's."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from tf_cutnmix.reporting.groups import Group

FEWEST_FOR_INTERVAL = 3

_RESAMPLES = 9999


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
      interval: 95 % bootstrap confidence interval of the mean; None for too few seeds.
      seeds: that both groups have.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


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
    return Difference(float(np.mean(values)), bootstrap_interval(values), tuple(differences))


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap confidence interval of the mean of `values`.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. The resamples are
    the same in every call. With three values the interval is their range, since one of them is
    drawn three times in 1 of 27 resamples.

    Returns:
      Its two ends; None for fewer than `FEWEST_FOR_INTERVAL` values.
    """
    if len(values) < FEWEST_FOR_INTERVAL:
        return None
    result = scipy.stats.bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=0.95,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
