"""Programs timed in turns, A B A B: what slows a machine down for a while then slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Times = dict[str, list[float]]


def in_turns(
    programs: Mapping[str, Callable[[], Any]],
    *,
    seconds: float,
    calls: int = 1,
    lead: int = 0,
    warm_up: int = 2,
    least: int = 5,
    most: int = 200,
) -> Times:
    """Milliseconds a call of each program, one turn each in every round.

    Args:
      programs: by name; a call returns when its result is there.
      seconds: after which no further round begins.
      calls: in a turn, one after another; a turn's figure is their mean.
      lead: calls before them in a turn that are not counted: the first ones find the caches full
        of another program's data, which is most of what a call of less than a millisecond costs.
      warm_up: rounds that are not counted: they compile, and fill caches.
      least: counted rounds, however long they take.
      most: counted rounds.
    """
    for _ in range(warm_up):
        for program in programs.values():
            program()
    times: Times = {name: [] for name in programs}
    begin = time.perf_counter()
    for count in range(most):
        if count >= least and time.perf_counter() - begin > seconds:
            break
        for name, program in programs.items():
            for _ in range(lead):
                program()
            start = time.perf_counter()
            for _ in range(calls):
                program()
            times[name].append((time.perf_counter() - start) * 1e3 / calls)
    return times


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest, to four digits."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def ratio(times: Times, over: str, under: str) -> dict[str, float]:
    """How many times as long one program takes as another, from the pairs of each round."""
    return summary([a / b for a, b in zip(times[over], times[under], strict=True)])
