"""Runs as groups that differ in their seed and fold alone: which may be compared, by how much, and
how they are across one setting.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.reporting.runs import Run
from tf_cutnmix.runs.config import RETIRED, Config, validation_from, with_defaults
from tf_cutnmix.settings import Role, names_of

NO_MEANING = "—"
FEWEST_FOR_INTERVAL = 2
FEWEST_FOR_LINE = 3
NETWORKS = {"teacher": "Teacher", "mean_peer": "Mean peer"}
# It follows from other settings.
STEPS = "steps trained"

# All that changes what is learnt, and what may change it: a run cut short, one made longer, devices
# that normalise their own part.
_COMPARED = {*names_of(Config, Role.LEARNT), "steps", "restarts", "distribute"} - {"seed"}
# Accuracies are compared only where these settings are equal.
_CONDITIONS = (
    *("dataset", "train_split", "test_split", "validation_split", "validation_fraction"),
    *("train_images", "fold", "image_size", "arch", "epochs", "batch_size", "steps"),
)
# Figures that differ by less than this part of their size are equal but for rounding.
_ROUNDING = 1e-7

Values = dict[str, Hashable]


@dataclasses.dataclass(eq=False)
class Group:
    """Runs that are equal in all but their seed, and their fold if they have one.

    Attributes:
      name: the settings in which the groups differ, but for those that have their defaults.
      runs: by seed, in order; one for each seed. By seed and fold, "0:1/5", where there are folds.
      settings: that the runs share, among them the steps trained, the versions and the machine.
      comparable_set: groups with one number have equal conditions; set 1 has the most groups.
    """

    name: str
    runs: dict[int | str, Run]
    settings: Values
    comparable_set: int = 0

    @property
    def conditions(self) -> Values:
        """What must be equal in groups that are compared."""
        return {n: v for n, v in self.settings.items() if n in _CONDITIONS or n not in DEFAULTS}


class Baseline(NamedTuple):
    """The group that another is compared with, or else the words that say why there is none."""

    group: Group | None
    words: str


class Difference(NamedTuple):
    """A group's figure less its baseline's, paired by seed: the mean over the seeds that both have.

    `low` and `high` end its 95 % interval, `p_value` is of the test against 0, not corrected for
    the number of tests; all three are NaN where `student` says so.
    """

    mean: float
    low: float
    high: float
    p_value: float
    seeds: tuple[int | str, ...]


def settings_of(config: Config, result: Mapping[str, Any] | None = None) -> Values:
    """The settings that tell runs apart; networks that are alike are named once and counted.

    Where a setting changes nothing it has no meaning, as `regions` without boxes of the peers' own.
    Devices that share a batch change nothing either, unless each normalises its own part.
    """
    values: Values = dict(RETIRED)
    values |= {name: v for name, v in dataclasses.asdict(config).items() if name in _COMPARED}
    values["fold"] = config.fold.partition("/")[2]
    values["num_peers"] = len(config.architectures)
    values["arch"] = ",".join(config.architectures)
    if len(set(config.architectures)) == 1:
        values["arch"] = config.architectures[0]
    if config.mix != "cutnmix":
        values["regions"] = NO_MEANING
    if config.distribute == "none" or config.batch_norm == "sync":
        values |= {"distribute": "none", "batch_norm": NO_MEANING}
    source = validation_from(values, result or {})
    if isinstance(source, str):
        values |= {"validation_split": source, "validation_fraction": NO_MEANING}
    return values


DEFAULTS = settings_of(with_defaults(Config()))


def collect(runs: Iterable[Run]) -> tuple[list[Group], list[str]]:
    """Sort runs into groups.

    Returns:
      The groups, by set, then the independent peers first, then by name; a line for each run that
      repeats another one's settings and seed, on its machine: neither is in a group.
    """
    found: dict[frozenset, Group] = {}
    repeated, duplicates = [], []
    for run in sorted(runs, key=lambda run: (run.config.seed, run.config.fold)):
        settings = settings_of(run.config, run.result) | run.retired | run.versions
        # With patience they are a result, another for each seed; folds may differ by an image, and
        # so by a step an epoch.
        free = run.config.patience or run.config.fold
        settings[STEPS] = NO_MEANING if free else int(run.figures["last_step"])
        group = found.setdefault(frozenset(settings.items()), Group("", {}, settings))
        seed = f"{run.config.seed}:{run.config.fold}" if run.config.fold else run.config.seed
        first = group.runs.setdefault(seed, run)
        if first is not run:
            repeated.append((group, seed))
            duplicates.append(f"duplicate: {run.folder} repeats {first.folder}: neither is used")
    for group, seed in repeated:
        group.runs.pop(seed, None)
    groups = [group for group in found.values() if group.runs]
    named = names([group.settings for group in groups])
    conditions = [frozenset(group.conditions.items()) for group in groups]
    largest_first = [own for own, _ in Counter(conditions).most_common()]
    for group, name, own in zip(groups, named, conditions, strict=True):
        group.name, group.comparable_set = name, largest_first.index(own) + 1
    groups.sort(key=lambda g: (g.comparable_set, g.settings["method"] != "independent", g.name))
    return groups, duplicates


def differing(every: Iterable[Values]) -> list[str]:
    """The names under which not all of `every`, where they have a meaning, hold the same value."""
    every = [*every]
    known = dict.fromkeys(name for values in every for name in values)
    return [n for n in known if len({values.get(n) for values in every} - {NO_MEANING}) > 1]


def choose_baseline(
    group: Group, groups: Sequence[Group], wanted: Values | None = None
) -> Baseline:
    """The group to compare `group` with, among those with the same conditions.

    Args:
      group: that is compared.
      groups: all.
      wanted: settings of the baseline; None for independent peers, of the same mixing if there is
        exactly one such group, else of any mixing.

    Raises:
      InputError: `wanted` fits several groups, or none at all.
    """
    asked: Values = wanted or {"method": "independent"}
    flag = f"--baseline={','.join(f'{name}={value}' for name, value in asked.items())}"
    fitting = [g for g in groups if asked.items() <= g.settings.items()]
    near = [g for g in fitting if g.comparable_set == group.comparable_set]
    if not wanted:
        alike = [g for g in near if g.settings["mix"] == group.settings["mix"]]
        near = alike if len(alike) == 1 else near
    elif not fitting:
        raise InputError(f"{flag}: no group of runs has these settings")
    elif len(near) > 1:
        raise InputError(
            f"{flag} fits {len(near)} groups that differ in "
            f"{', '.join(differing(g.settings for g in near))}: name these settings too"
        )
    if len(near) == 1:
        return Baseline(near[0], "baseline" if near[0] is group else near[0].name)
    if near:
        return Baseline(None, "several fit")
    return Baseline(None, "not comparable" if fitting else "none fits")


def recorded(group: Group, figure: str) -> pd.Series:
    """A figure of `Run.figures` by seed, of each of a group's runs that has it."""
    values = {seed: run.figures.get(figure) for seed, run in group.runs.items()}
    return pd.Series(values, dtype=float).dropna()


def difference(group: Group, baseline: Group, figure: str) -> Difference | None:
    """How far a group's figure is above its baseline's; None where no seed has both."""
    own, other = (recorded(of, figure) for of in (group, baseline))
    values = (own - other).dropna()
    if values.empty:
        return None
    tested = student(values, size=max(own.abs().max(), other.abs().max()))
    return Difference(float(values.mean()), *tested, tuple(values.index))


def student(values: pd.Series, size: float) -> tuple[float, float, float]:
    """Student's t of the mean of `values`, exact for normal ones.

    Args:
      values: one or more.
      size: of the figures that they were made of.

    Returns:
      The ends of the mean's 95 % confidence interval and the p-value of its two-sided test
      against 0. NaN for fewer than `FEWEST_FOR_INTERVAL` values, and for values that are equal but
      for rounding: a spread that was not seen may be any.
    """
    if len(values) < FEWEST_FOR_INTERVAL or np.ptp(values) <= _ROUNDING * size:
        return math.nan, math.nan, math.nan
    found = scipy.stats.ttest_1samp(values, 0.0)
    low, high = found.confidence_interval(0.95)
    return float(low), float(high), float(found.pvalue)


def corrected(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, each so large that all may be read at one level (Holm 1979).

    NaN, where nothing was tested, stays and does not count.
    """
    rising = pd.Series(p_values, dtype=float).dropna().sort_values()
    steps = rising * np.arange(len(rising), 0, -1)
    return steps.cummax().clip(upper=1.0).reindex(range(len(p_values))).tolist()


def names(every: Sequence[Values]) -> list[str]:
    """A name for each of several settings; versions and machine only where all else is equal."""
    shown = [n for n in differing(every) if n in DEFAULTS] or ["method", "mix"]
    found = [_name(values, shown) for values in every]
    for name in {*found}:
        same = [index for index, other in enumerate(found) if other == name]
        for key in differing(every[index] for index in same):
            for index in same:
                found[index] += f", {key} {every[index].get(key, 'not recorded')}"
    return found


def _name(values: Values, shown: Sequence[str]) -> str:
    named = [str(values[n]) for n in ("method", "mix") if n in shown and n in values]
    plain = " + ".join(dict.fromkeys(named))
    rest = [name for name in shown if name not in ("method", "mix")]
    if plain:
        rest = [name for name in rest if values[name] not in (NO_MEANING, DEFAULTS[name])]
    return ", ".join([*[plain] * bool(plain), *(f"{name}={values[name]}" for name in rest)])


# Across a setting


class Across(NamedTuple):
    """Groups along one setting.

    Attributes:
      setting: its name.
      title: of the table and of the plot.
      caption: of both, what is compared.
      numeric: whether its values are numbers, or splits, which stand for their numbers of images.
      points: a row for each group, in order: its `line`, the `value` as text, the `place` on the
        axis (the number, or a rank), `seeds`, and of each of `NETWORKS` in percent the mean, and
        `_low` and `_high`, the ends of its interval, NaN where there is none.
      short: names of what has too few values for a line.
    """

    setting: str
    title: str
    caption: str
    numeric: bool
    points: pd.DataFrame
    short: list[str]


def across(groups: Sequence[Group], setting: str) -> Across:
    """Groups along a setting; what follows from it, the number of steps, may differ with it.

    Where a setting has no meaning, as `regions` where nothing mixes by boxes, its default counts.

    Raises:
      InputError: there is no such setting, fewer than three values of it, or no three in groups
        that are equal otherwise.
    """
    if setting not in DEFAULTS:
        raise unknown("setting in --across", setting, DEFAULTS)
    values = sorted({str(group.settings[setting]) for group in groups})
    if len(values) < FEWEST_FOR_LINE:
        raise InputError(
            f"--across={setting}: the runs have {len(values)} of the {FEWEST_FOR_LINE} values or "
            f"more that a plot needs: {', '.join(values)}"
        )
    others = [
        {
            name: DEFAULTS[name] if value == NO_MEANING else value
            for name, value in group.settings.items()
            if name not in (setting, STEPS)
        }
        for group in groups
    ]
    points = pd.DataFrame([_point(group, setting) for group in groups])
    points["line"] = names(others)
    points["order"] = pd.factorize(points["line"])[0]
    long = points.groupby("line")["value"].transform("nunique") >= FEWEST_FOR_LINE
    if not long.any():
        raise InputError(
            f"--across={setting}: no {FEWEST_FOR_LINE} values of it are in runs that are equal "
            f"otherwise: they differ in {', '.join(differing(others))} too"
        )
    short, points = points["line"][~long].unique().tolist(), points[long]
    numeric = bool(points["place"].notna().all())
    if not numeric:
        points = points.assign(place=pd.factorize(points["value"].map(_in_order), sort=True)[0])
    caption = (
        "Mean over seeds; a bar is the 95 % interval of the mean by Student's t, which a single "
        f"seed has not. The runs of a line differ in {setting} and what follows from it alone"
    )
    if len({group.comparable_set for group in groups}) > 1:
        caption += ": here, and nowhere else in this report, they are compared although they do"
    return Across(
        setting,
        f"Test accuracy at the best epoch across {setting}",
        f"{caption}.",
        numeric,
        points.sort_values(["order", "place"], ignore_index=True),
        short,
    )


def _point(group: Group, setting: str) -> dict[str, object]:
    value = group.settings[setting]
    point: dict[str, object] = {"value": str(value), "place": math.nan, "seeds": len(group.runs)}
    counts = next(iter(group.runs.values())).counts.get(setting.removesuffix("_split"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        point["place"] = float(value)
    elif setting.endswith("_split"):
        # Older results have no counts.
        slice_ = re.fullmatch(r"\w+\[(\d*):(\d+)\]", str(value))
        if counts or slice_:
            sliced = float(slice_[2]) - float(slice_[1] or 0) if slice_ else 0.0
            point["place"] = float(sum(counts)) if counts else sliced
    for network in NETWORKS:
        values = 100 * recorded(group, f"best_{network}_accuracy")
        low, high, _ = student(values, size=values.max())
        point |= {network: values.mean(), f"{network}_low": low, f"{network}_high": high}
    return point


def _in_order(text: str) -> str:
    """By which names are in order: resnet8 comes before resnet14."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), text)
