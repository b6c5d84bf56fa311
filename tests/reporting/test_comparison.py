"""Comparison: which runs are one group, which groups may be compared, and how far they differ."""

import math
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from tests.run_folders import make_groups, make_runs
from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting import comparison, report_page
from tf_cutnmix.reporting.comparison import Group, choose_baseline, collect, corrected, student
from tf_cutnmix.runs.config import Config

TEACHER = "best_teacher_accuracy"
BASE = {"method": "independent", "mix": "cutmix"}
OURS = {"method": "cutnmix", "mix": "cutnmix"}
# Unlike enough for a t test that rounding does not decide.
VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3)


def warnings(groups: list[Group]) -> list[str]:
    return report_page._warnings(groups, {}, None)


# Groups


def test_runs_of_several_seeds_are_one_group(tmp_path: pathlib.Path) -> None:
    contents = [{**BASE, "seed": seed, "export_dir": f"out{seed}"} for seed in (4, 0, 2)]
    (group,) = make_groups(tmp_path, *contents)
    assert list(group.runs) == [0, 2, 4]
    assert [run.config.seed for run in group.runs.values()] == [0, 2, 4]
    assert group.name == "independent + cutmix"


def test_folds_count_as_seeds_do_and_are_not_compared_with_runs_that_have_none(tmp_path) -> None:
    folds = [
        {**kind, "fold": f"{k}/2", "seed": seed}
        for kind in (BASE, OURS)
        for k in (1, 2)
        for seed in (0, 1)
    ]
    groups = make_groups(tmp_path, *folds, {**OURS, "seed": 0})
    assert [[*group.runs] for group in groups] == [["0:1/2", "0:2/2", "1:1/2", "1:2/2"]] * 2 + [[0]]
    ours = groups[1]
    assert choose_baseline(ours, groups).group is groups[0]
    assert comparison.difference(ours, groups[0], TEACHER).seeds == (*ours.runs,)
    assert any("intervals over them are too narrow" in line for line in warnings(groups))


@pytest.mark.parametrize(
    ("one", "other", "groups"),
    [
        ({}, {"save_minutes": 1.0}, 1),
        ({"distribute": "multi_worker"}, {"distribute": "mirrored"}, 1),
        ({}, {"jit": "on", "threads": 3}, 1),
        ({"distribute": "mirrored"}, {"distribute": "mirrored", "batch_norm": "replica"}, 2),
        ({}, {"restarts": "1"}, 2),
        ({"mix": "cutmix"}, {"mix": "cutmix", "regions": "spread"}, 1),
        ({}, {"train_images": 100}, 2),
        # With a split of their own, no images are held out of those for training.
        ({"validation_split": "v"}, {"validation_split": "v", "validation_fraction": 0.5}, 1),
        ({"validation_split": "v"}, {"validation_split": "w"}, 2),
        ({"result": {"validation_split": "v"}}, {"validation_split": "v"}, 1),
        ({"result": {"validation_split": "v"}}, {"result": {"validation_split": ""}}, 2),
    ],
)
def test_runs_are_one_group_unless_they_learnt_otherwise(one, other, groups, tmp_path) -> None:
    found = make_groups(tmp_path, {"seed": 0, **one}, {"seed": 1, **other})
    assert len(found) == len({group.name for group in found}) == groups


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([BASE, {**BASE, "mix": "none"}], ["cutmix", "none"]),
        ([BASE, {**BASE, "alpha": 0.5}], ["alpha=0.5", "alpha=1.0"]),
        (
            [BASE, OURS, {**OURS, "regions": "spread"}],
            ["independent + cutmix", "cutnmix", "cutnmix, regions=spread"],
        ),
    ],
)
def test_a_group_is_named_by_what_differs_and_is_not_the_default(
    settings: list[dict], names: list[str], tmp_path: pathlib.Path
) -> None:
    assert [group.name for group in make_groups(tmp_path, *settings)] == names


def test_networks_that_are_alike_may_be_named_or_counted(tmp_path: pathlib.Path) -> None:
    (group,) = make_groups(tmp_path, {"arch": "resnet8"}, {"arch": "resnet8,resnet8", "seed": 1})
    assert (group.settings["arch"], group.settings["num_peers"]) == ("resnet8", 2)
    assert comparison.settings_of(Config(arch="resnet8,resnet14"))["arch"] == "resnet8,resnet14"


def test_several_runs_of_one_seed_are_all_left_out(tmp_path: pathlib.Path) -> None:
    runs = make_runs(tmp_path, {"seed": 0}, *[{"seed": 1}] * 3, OURS, {**OURS, "teacher": 0.9})
    (group,), duplicates = collect(runs)
    assert group.runs == {0: runs[0]}
    repeats = ((2, 1), (3, 1), (5, 4))
    assert sorted(duplicates) == [
        f"duplicate: {runs[later].folder} repeats {runs[first].folder}: neither is used"
        for later, first in repeats
    ]


# What may be compared


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar10"},
        {"validation_fraction": 0.2},
        {"arch": "resnet14"},
        {"epochs": 3},
        {"result": {"versions": {"tensorflow": "2.20.0", "machine": "2 cores"}}},
        {"result": {"versions": {}}},
    ],
)
def test_groups_under_other_conditions_are_not_compared(change, tmp_path) -> None:
    every = make_groups(tmp_path, BASE, {**OURS, **change})
    assert [group.comparable_set for group in every] == [1, 2]
    (ours,) = (group for group in every if group.settings["method"] == "cutnmix")
    assert choose_baseline(ours, every) == (None, "not comparable")
    assert any(line.startswith("not comparable: ") for line in warnings(every))


def test_seeds_that_patience_ends_at_other_steps_are_one_group(tmp_path) -> None:
    runs = make_runs(tmp_path, {"seed": 0, "patience": 3}, {"seed": 1, "patience": 3})
    runs[1].figures["last_step"] = 10.0
    (group,), _ = collect(runs)
    assert list(group.runs) == [0, 1]


def test_runs_on_two_machines_are_two_groups_though_their_settings_are_equal(tmp_path) -> None:
    other = {"result": {"versions": {"tensorflow": "2.21.0", "machine": "8 cores"}}}
    runs = make_runs(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 2, **other}, {"seed": 3})
    runs[3].figures["last_step"] = 19.0
    every = collect(runs)[0]
    same, eight = "independent + cutmix, machine 2 cores", "independent + cutmix, machine 8 cores"
    assert [(group.name, list(group.runs)) for group in every] == [
        (f"{same}, steps trained 20", [0, 1]),
        (f"{eight}, steps trained 20", [2]),
        (f"{same}, steps trained 19", [3]),
    ]
    assert "not comparable: machine is 2 cores in set 1; 8 cores in set 2" in warnings(every)[-2]


def test_what_is_under_test_may_differ_and_the_set_with_the_most_groups_is_the_first(
    tmp_path: pathlib.Path,
) -> None:
    longer = {**BASE, "epochs": 9}
    wider = {**OURS, "num_peers": 3, "peers": (0.1, 0.2, 0.3)}
    every = make_groups(tmp_path, longer, BASE, {**OURS, "alpha": 0.5}, wider)
    assert [group.comparable_set for group in every] == [1, 1, 1, 2]
    assert every[3].name == "independent + cutmix, epochs=9"


# Baselines


def test_the_baseline_is_independent_peers_of_the_same_mixing_or_the_only_ones(tmp_path) -> None:
    contents = [
        {"method": m, "mix": x} for m in ("independent", "cutnmix") for x in ("none", "mixup")
    ]
    every = {group.name: group for group in make_groups(tmp_path, *contents, OURS)}
    for mix in ("none", "mixup"):
        base = every[f"independent + {mix}"]
        ours = every[f"cutnmix + {mix}"]
        assert choose_baseline(ours, [*every.values()]) == (base, base.name)
        assert choose_baseline(base, [*every.values()]) == (base, "baseline")
    ours = every["cutnmix"]
    assert choose_baseline(ours, [*every.values()]) == (None, "several fit")
    assert choose_baseline(ours, [base, ours]) == (base, base.name)
    assert choose_baseline(ours, [ours]) == (None, "none fits")


def test_a_baseline_may_be_asked_for(tmp_path: pathlib.Path) -> None:
    every = make_groups(tmp_path, BASE, {**BASE, "mix": "none"}, OURS)
    chosen = choose_baseline(every[0], every, {"method": "cutnmix"})
    assert chosen == (every[2], "cutnmix")
    with pytest.raises(InputError, match="no group of runs has these settings"):
        choose_baseline(every[0], every, {"alpha": 0.5})
    with pytest.raises(InputError, match="fits 2 groups that differ in mix: name"):
        choose_baseline(every[0], every, {"method": "independent"})


# Differences


def pair_of_groups(
    folder: pathlib.Path, own: dict[int, float], other: dict[int, float]
) -> tuple[Group, Group]:
    """Two groups whose teachers have these accuracies, by seed."""
    contents = [{"method": "cutnmix", "seed": s, "teacher": a} for s, a in own.items()]
    contents += [{"method": "independent", "seed": s, "teacher": a} for s, a in other.items()]
    baseline, group = make_groups(folder, *contents)
    return group, baseline


def test_a_difference_is_paired_by_seed(tmp_path: pathlib.Path) -> None:
    own = {0: 0.50, 1: 0.62, 2: 0.71, 8: 0.99}
    other = {0: 0.49, 1: 0.60, 2: 0.68, 9: 0.01}
    found = comparison.difference(*pair_of_groups(tmp_path, own, other), TEACHER)
    assert found.mean == pytest.approx(0.02)
    assert found.seeds == (0, 1, 2)
    # t(0.975, 2) = 4.3027 of a printed table; the deviation is 0.01.
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-4)
    # t = 0.02 / (0.01 / sqrt 3) = 3.4641; of 2 degrees p = 1 - t / sqrt(2 + t^2).
    assert found.p_value == pytest.approx(1 - 3.4641 / math.sqrt(2 + 12), rel=1e-4)


def test_one_common_seed_has_no_interval_and_none_no_difference(tmp_path: pathlib.Path) -> None:
    group, baseline = pair_of_groups(tmp_path, {0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.5})
    del baseline.runs[0].figures[TEACHER]
    found = comparison.difference(group, baseline, TEACHER)
    assert (found.mean, found.seeds) == (pytest.approx(0.2), (1,))
    assert np.isnan([found.low, found.high, found.p_value]).all()
    baseline.runs[1].figures[TEACHER] = None
    assert comparison.difference(group, baseline, TEACHER) is None


@pytest.mark.parametrize("gap", [0.0, 0.01, -0.3])
def test_differences_that_are_equal_in_all_seeds_have_no_interval(gap: float, tmp_path) -> None:
    """Equal but for the last bits, which the subtraction of floats leaves."""
    others = dict(enumerate((0.1, 0.3, 0.7, 0.5, 0.9)))
    own = {seed: value + gap for seed, value in others.items()}
    found = comparison.difference(*pair_of_groups(tmp_path, own, others), TEACHER)
    assert found.mean == pytest.approx(gap, abs=1e-12)
    assert np.isnan([found.low, found.high, found.p_value]).all()


@hypothesis.given(values=VALUES)
def test_intervals_and_p_values_are_those_of_the_formula(values: list[float]) -> None:
    low, high, p = student(pd.Series(values), size=1.0)
    count, mean = len(values), np.mean(values)
    error = np.std(values, ddof=1) / math.sqrt(count)
    half = scipy.stats.t.ppf(0.975, count - 1) * error
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=1e-6, abs=1e-9)
    expected = 2 * scipy.stats.t.sf(abs(mean) / error, count - 1)
    assert p == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_p_values_are_corrected_as_holm_says() -> None:
    # By hand: 0.01 * 4, 0.02 * 3, then 0.03 * 2, which the one before holds up, and 0.5.
    assert corrected([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert corrected([]) == []
    assert corrected([0.7, 0.9]) == [1.0, 1.0]
    # What was not tested does not count.
    assert corrected([math.nan, 0.02, 0.5]) == pytest.approx([math.nan, 0.04, 0.5], nan_ok=True)
