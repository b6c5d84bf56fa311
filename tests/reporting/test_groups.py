"""Groups: runs that differ in their seed alone, and which groups may be compared."""

import pathlib
from typing import Any

import pytest

from tests.run_folders import make_runs
from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting import groups
from tf_cutnmix.reporting.groups import Group, collect
from tf_cutnmix.runs.config import Config

BASE = {"method": "independent", "mix": "cutmix"}
OURS = {"method": "cutnmix", "mix": "cutnmix"}


def collected(folder: pathlib.Path, *contents: dict[str, Any]) -> list[Group]:
    return collect(make_runs(folder, *contents)).groups


def named(every: list[Group], name: str) -> Group:
    return next(group for group in every if group.name == name)


def test_runs_of_several_seeds_are_one_group(tmp_path: pathlib.Path) -> None:
    contents = [{**BASE, "seed": seed, "export_dir": f"out{seed}"} for seed in (4, 0, 2)]
    (group,) = collected(tmp_path, *contents)
    assert list(group.runs) == [0, 2, 4]
    assert [run.config.seed for run in group.runs.values()] == [0, 2, 4]
    assert group.name == "independent + cutmix"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([BASE, OURS], ["independent + cutmix", "cutnmix + cutnmix"]),
        ([BASE, {**BASE, "mix": "none"}], ["cutmix", "none"]),
        ([BASE, {**BASE, "alpha": 0.5}], ["alpha=0.5", "alpha=1.0"]),
        ([BASE, {**BASE, "mix": "none", "alpha": 0.5}], ["cutmix", "none, alpha=0.5"]),
        ([BASE, {**BASE, "epochs": 3}], ["epochs=2", "epochs=3"]),
        (
            [BASE, OURS, {**OURS, "regions": "spread"}],
            [
                "independent + cutmix",
                "cutnmix + cutnmix",
                "cutnmix + cutnmix, regions=spread",
            ],
        ),
        ([BASE, {**BASE, "seed": 1, "regions": "spread"}], ["independent + cutmix"]),
    ],
)
def test_a_group_is_named_by_what_differs_and_is_not_the_default(
    settings: list[dict], names: list[str], tmp_path: pathlib.Path
) -> None:
    assert [group.name for group in collected(tmp_path, *settings)] == names


def test_networks_that_are_alike_may_be_named_or_counted(tmp_path: pathlib.Path) -> None:
    (group,) = collected(tmp_path, {"arch": "resnet8"}, {"arch": "resnet8,resnet8", "seed": 1})
    assert (group.settings["arch"], group.settings["num_peers"]) == ("resnet8", 2)
    assert groups.settings_of(Config(arch="resnet8,resnet14"))["arch"] == "resnet8,resnet14"


def test_several_runs_of_one_seed_are_all_left_out(tmp_path: pathlib.Path) -> None:
    runs = make_runs(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 1, "teacher": 0.9})
    grouping = collect(runs)
    assert list(grouping.groups[0].runs) == [0]
    assert grouping.duplicates == [("independent + cutmix", runs[1:])]


def test_a_group_of_nothing_but_duplicates_is_none(tmp_path: pathlib.Path) -> None:
    grouping = collect(make_runs(tmp_path, BASE, BASE, OURS))
    assert [(g.name, g.comparable_set) for g in grouping.groups] == [("cutnmix + cutnmix", 1)]


# What may be compared


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar10"},
        {"train_split": "train[:9]"},
        {"test_split": "test[:9]"},
        {"validation_fraction": 0.2},
        {"image_size": 16},
        {"arch": "resnet14"},
        {"epochs": 3},
        {"batch_size": 64},
        {"steps": 7},
        {"result": {"versions": {"tensorflow": "2.20.0", "machine": "2 cores"}}},
        {"result": {"versions": {"tensorflow": "2.21.0", "machine": "8 cores"}}},
        {"result": {"versions": {}}},
    ],
)
def test_groups_under_other_conditions_are_not_compared(
    change: dict, tmp_path: pathlib.Path
) -> None:
    every = collected(tmp_path, BASE, {**OURS, **change})
    assert [group.comparable_set for group in every] == [1, 2]
    ours = next(group for group in every if group.settings["method"] == "cutnmix")
    assert groups.choose_baseline(ours, every) == (None, "not comparable")
    assert len(groups.unequal_conditions(every)) >= 1


def test_runs_on_two_machines_are_two_groups_though_their_settings_are_equal(
    tmp_path: pathlib.Path,
) -> None:
    other = {"result": {"versions": {"tensorflow": "2.21.0", "machine": "8 cores"}}}
    every = collected(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 2, **other})
    assert [(group.name, list(group.runs)) for group in every] == [
        ("independent + cutmix, machine 2 cores", [0, 1]),
        ("independent + cutmix, machine 8 cores", [2]),
    ]
    assert groups.unequal_conditions(every) == [
        "not comparable: machine is 2 cores in set 1; 8 cores in set 2"
    ]
    assert not groups.missing_seeds(every)


def test_runs_that_took_other_numbers_of_steps_are_not_averaged(tmp_path: pathlib.Path) -> None:
    runs = make_runs(tmp_path, {"seed": 0}, {"seed": 1})
    runs[1].figures["last_step"] = 19.0
    every = collect(runs).groups
    assert [group.name for group in every] == [
        "independent + cutmix, steps trained 20",
        "independent + cutmix, steps trained 19",
    ]


@pytest.mark.parametrize("change", [{"alpha": 0.5}, {"num_peers": 3, "peers": (0.1, 0.2, 0.3)}])
def test_what_is_under_test_may_differ(change: dict, tmp_path: pathlib.Path) -> None:
    every = collected(tmp_path, BASE, {**OURS, **change})
    assert [group.comparable_set for group in every] == [1, 1]
    assert not groups.unequal_conditions(every)


def test_the_set_with_the_most_groups_is_the_first(tmp_path: pathlib.Path) -> None:
    every = collected(tmp_path, {**BASE, "epochs": 9}, BASE, OURS)
    assert [group.comparable_set for group in every] == [1, 1, 2]
    assert every[2].name == "independent + cutmix, epochs=9"


def test_missing_seeds_are_listed(tmp_path: pathlib.Path) -> None:
    seeds = [{**BASE, "seed": seed} for seed in (0, 1, 5)]
    every = collected(tmp_path, *seeds, {**OURS, "seed": 1})
    assert groups.missing_seeds(every) == [
        "missing seeds: cutnmix + cutnmix lacks 0, 5, which other groups have"
    ]


# Baselines


def test_the_baseline_is_independent_peers_of_the_same_mixing(tmp_path: pathlib.Path) -> None:
    contents = [
        {"method": m, "mix": x} for m in ("independent", "cutnmix") for x in ("none", "mixup")
    ]
    every = collected(tmp_path, *contents)
    for mix in ("none", "mixup"):
        base = named(every, f"independent + {mix}")
        chosen = groups.choose_baseline(named(every, f"cutnmix + {mix}"), every)
        assert chosen == (base, base.name)
        assert groups.choose_baseline(base, every) == (base, "baseline")


def test_the_only_independent_peers_will_do(tmp_path: pathlib.Path) -> None:
    base, ours = collected(tmp_path, BASE, OURS)
    assert groups.choose_baseline(ours, [base, ours]).group is base


def test_of_several_independent_groups_none_is_guessed(tmp_path: pathlib.Path) -> None:
    every = collected(tmp_path, BASE, {**BASE, "mix": "none"}, OURS)
    assert groups.choose_baseline(every[2], every) == (None, "several fit")


def test_without_independent_peers_there_is_no_baseline(tmp_path: pathlib.Path) -> None:
    every = collected(tmp_path, OURS)
    assert groups.choose_baseline(every[0], every) == (None, "none fits")


def test_a_baseline_may_be_asked_for(tmp_path: pathlib.Path) -> None:
    every = collected(tmp_path, BASE, {**BASE, "mix": "none"}, OURS)
    chosen = groups.choose_baseline(every[0], every, {"method": "cutnmix"})
    assert chosen == (every[2], "cutnmix + cutnmix")


def test_a_baseline_that_no_run_or_several_groups_fit_is_refused(tmp_path: pathlib.Path) -> None:
    every = collected(tmp_path, BASE, {**BASE, "mix": "none"}, OURS)
    with pytest.raises(InputError, match="no group of runs has these settings"):
        groups.choose_baseline(every[0], every, {"alpha": 0.5})
    with pytest.raises(InputError, match="fits 2 groups that differ in mix: name"):
        groups.choose_baseline(every[0], every, {"method": "independent"})
