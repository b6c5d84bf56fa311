"""Runs as groups that differ in their seed alone, and which groups may be compared."""

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple, cast

from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting.runs import Run
from tf_cutnmix.runs.config import HOW_TO_BEGIN, Config

NO_MEANING = "—"
# What a run is called and where it is kept says nothing about what it does.
_NOT_COMPARED = (
    "seed",
    "workdir",
    "export",
    "export_dir",
    "max_pixels",
    "export_format",
    "data_dir",
    "cache_dir",
    "threads",
    *HOW_TO_BEGIN,
)

# The circumstance that settings explain.
STEPS = "steps trained"

# Accuracies are compared only where these settings are equal.
_CONDITIONS = (
    "dataset",
    "train_split",
    "test_split",
    "validation_split",
    "validation_fraction",
    "hold_out",
    "image_size",
    "arch",
    "epochs",
    "batch_size",
    "steps",
)

Values = dict[str, Hashable]


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that are equal in all but their seed.

    Attributes:
      name: the settings in which the groups differ, but for those that have their defaults.
      runs: by seed, in order; one for each seed.
      settings: those that the runs share.
      circumstances: steps trained, versions and machine, which the runs share too.
      conditions: what must be equal in groups that are compared, settings and circumstances.
      comparable_set: groups with one number have equal conditions; set 1 has the most groups.
    """

    name: str
    runs: dict[int, Run]
    settings: Values
    circumstances: Values
    conditions: Values
    comparable_set: int


class Grouping(NamedTuple):
    """Runs in groups.

    Attributes:
      groups: all, in order.
      duplicates: a group's name and the runs with one seed that would be in it; none of them is.
    """

    groups: list[Group]
    duplicates: list[tuple[str, list[Run]]]


class Baseline(NamedTuple):
    """The group that another is compared with, or else the words that say why there is none."""

    group: Group | None
    words: str


def settings_of(config: Config) -> Values:
    """The settings that tell runs apart; networks that are alike are named once and counted.

    `regions` has no meaning where peers have no boxes of their own, `hold_out` where no images are
    held out.
    """
    fields = (field.name for field in dataclasses.fields(config))
    values = {name: getattr(config, name) for name in fields if name not in _NOT_COMPARED}
    values["num_peers"] = len(config.architectures)
    unlike = len(set(config.architectures)) > 1
    values["arch"] = ",".join(config.architectures) if unlike else config.architectures[0]
    if config.mix != "cutnmix":
        values["regions"] = NO_MEANING
    if not config.validation_fraction:
        values["hold_out"] = NO_MEANING
    return values


def collect(runs: Iterable[Run]) -> Grouping:
    """Sort runs into groups: by set, then the independent peers first, then by name."""
    together: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        key = (tuple(settings_of(run.config).items()), frozenset(_circumstances(run).items()))
        together[key].append(run)
    families = list(together.values())
    duplicates, kept = [], []
    for name, members in zip(_names_of(families), families, strict=True):
        by_seed: dict[int, list[Run]] = defaultdict(list)
        for run in members:
            by_seed[run.config.seed].append(run)
        duplicates += [(name, same) for same in by_seed.values() if len(same) > 1]
        single = {seed: same[0] for seed, same in sorted(by_seed.items()) if len(same) == 1}
        if single:
            kept.append((name, single))
    conditions = [_conditions(_first(single)) for _, single in kept]
    sets = [conditions.index(own) for own in conditions]
    largest_first = sorted(set(sets), key=lambda first: (-sets.count(first), first))
    groups = [
        Group(
            name=name,
            runs=single,
            settings=settings_of(_first(single).config),
            circumstances=_circumstances(_first(single)),
            conditions=own,
            comparable_set=largest_first.index(first) + 1,
        )
        for (name, single), own, first in zip(kept, conditions, sets, strict=True)
    ]
    groups.sort(
        key=lambda group: (
            group.comparable_set,
            group.settings["method"] != "independent",
            group.name,
        )
    )
    return Grouping(groups, duplicates)


def differing(every: Sequence[Values]) -> list[str]:
    """The names under which not all of `every`, where they have a meaning, hold the same value."""
    names = dict.fromkeys(name for values in every for name in values)
    found = {name: {values.get(name) for values in every} - {NO_MEANING} for name in names}
    return [name for name in names if len(found[name]) > 1]


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
    asked: Values = {"method": "independent"} if wanted is None else wanted
    fitting = [g for g in groups if asked.items() <= g.settings.items()]
    near = [g for g in fitting if g.comparable_set == group.comparable_set]
    if wanted is None:
        alike = [g for g in near if g.settings["mix"] == group.settings["mix"]]
        near = alike if len(alike) == 1 else near
    elif not fitting:
        raise InputError(f"--baseline={_list(asked)}: no group of runs has these settings")
    elif len(near) > 1:
        raise InputError(
            f"--baseline={_list(asked)} fits {len(near)} groups that differ in "
            f"{', '.join(differing([g.settings for g in near]))}: name these settings too"
        )
    if len(near) == 1:
        return Baseline(near[0], "baseline" if near[0] is group else near[0].name)
    if near:
        return Baseline(None, "several fit")
    return Baseline(None, "not comparable" if fitting else "none fits")


def missing_seeds(groups: Sequence[Group]) -> list[str]:
    """A line for each group that lacks seeds which comparable groups have."""
    lines = []
    for group in groups:
        others = [g for g in groups if g.comparable_set == group.comparable_set]
        lacking = sorted({seed for other in others for seed in other.runs} - set(group.runs))
        if lacking:
            seeds = ", ".join(map(str, lacking))
            lines.append(f"missing seeds: {group.name} lacks {seeds}, which other groups have")
    return lines


def unequal_conditions(groups: Sequence[Group]) -> list[str]:
    """A line for each condition in which sets of groups differ."""
    sets = {group.comparable_set: group.conditions for group in groups}
    lines = []
    for name in differing(list(sets.values())):
        values = {number: own.get(name, "not recorded") for number, own in sets.items()}
        words = "; ".join(f"{value} in set {number}" for number, value in values.items())
        lines.append(f"not comparable: {name} is {words}")
    return lines


def _names_of(families: Sequence[Sequence[Run]]) -> list[str]:
    first = [family[0] for family in families]
    return names([settings_of(run.config) for run in first], [_circumstances(r) for r in first])


def _first(runs: dict[int, Run]) -> Run:
    return next(iter(runs.values()))


def _circumstances(run: Run) -> Values:
    return {STEPS: int(cast(float, run.figures["last_step"])), **run.versions}


def _conditions(run: Run) -> Values:
    settings = settings_of(run.config)
    return {**{name: settings[name] for name in _CONDITIONS}, **_circumstances(run)}


def names(settings: Sequence[Values], circumstances: Sequence[Values]) -> list[str]:
    """A name for each of several from the settings, and where these are equal the circumstances."""
    told = differing(settings) or ["method", "mix"]
    usual = settings_of(Config())
    found = [_name(values, told, usual) for values in settings]
    for name in {name for name in found if found.count(name) > 1}:
        same = [index for index, other in enumerate(found) if other == name]
        values = [circumstances[index] for index in same]
        for index, own in zip(same, values, strict=True):
            extra = [f"{key} {own.get(key, 'not recorded')}" for key in differing(values)]
            found[index] = ", ".join([name, *extra])
    return found


def _name(values: Values, told: Sequence[str], usual: Values) -> str:
    plain = " + ".join(str(values[n]) for n in ("method", "mix") if n in told and n in values)
    others = [name for name in told if name not in ("method", "mix")]
    kept = [name for name in others if values[name] not in (NO_MEANING, usual[name])]
    rest = [f"{name}={values[name]}" for name in (kept if plain else others)]
    return ", ".join([plain, *rest] if plain else rest)


def _list(values: Values) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())
