"""Grids: texts to combinations of values, names of folders, time left."""

import itertools

import pytest

from tf_cutnmix.errors import InputError
from tf_cutnmix.sweeps import grid


def test_a_text_names_a_setting_and_its_values() -> None:
    parsed = grid.parse(["method=dml, cutnmix", "seed=0,1,2"])
    assert parsed == {"method": ("dml", "cutnmix"), "seed": ("0", "1", "2")}


def test_values_with_commas_are_separated_by_a_bar() -> None:
    assert grid.parse(["arch=resnet8,resnet14|resnet20"]) == {
        "arch": ("resnet8,resnet14", "resnet20")
    }


def test_a_value_may_hold_an_equals_sign() -> None:
    assert grid.parse(["dataset=a=b,c"]) == {"dataset": ("a=b", "c")}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["seed"], ["--grid=seed", "seed=0,1,2"]),
        (["seed="], ["--grid=seed="]),
        (["=1,2"], ["--grid==1,2"]),
        ([""], ["--grid="]),
        (["seed=0,,1"], ["--grid=seed=0,,1"]),
        (["arch=a|"], ["--grid=arch=a|"]),
        (["seed=0", "mix=none", "seed=1"], ["seed twice"]),
        (["seed=0,1,0"], ["--grid=seed=0,1,0", "0 comes twice"]),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(texts: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        grid.parse(texts)
    for word in words:
        assert word in str(caught.value)


def test_the_cells_are_the_product_and_the_last_setting_changes_first() -> None:
    cells = grid.cells({"mix": ("none", "mixup"), "seed": ("0", "1", "2")})
    expected = itertools.product(("none", "mixup"), ("0", "1", "2"))
    assert [(cell["mix"], cell["seed"]) for cell in cells] == list(expected)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "dml", "seed": 0}, "method=dml,seed=0"),
        ({"learning_rate": 1e-05}, "learning_rate=1e-05"),
        ({"arch": "resnet8,resnet14", "seed": 1}, "arch=resnet8+resnet14,seed=1"),
        ({"dataset": "../my pets/new"}, "dataset=.._my_pets_new"),
        ({"train_split": "train[:50%]"}, "train_split=train_50_"),
        ({"resume": True}, "resume=True"),
    ],
)
def test_a_folder_is_named_by_settings_in_safe_characters(settings: dict, name: str) -> None:
    assert grid.folder_name(settings) == name


def test_a_name_too_long_for_a_file_system_is_refused() -> None:
    with pytest.raises(InputError, match="200 bytes"):
        grid.folder_name({"dataset": "ü" * 100})
    assert len(grid.folder_name({"dataset": "u" * 100})) == 108


@pytest.mark.parametrize(
    ("finished", "running", "waiting", "at_once", "left"),
    [
        ([10.0, 20.0], [], 4, 1, 60.0),
        ([10.0, 20.0], [], 4, 2, 30.0),
        ([10.0], [], 0, 1, 0.0),
        # 6 s are left of the one that is on, and 10 for each that waits.
        ([10.0], [4.0], 2, 2, 13.0),
        # One waits for a place and takes its 10 s.
        ([10.0], [5.0], 1, 2, 10.0),
        # Nothing waits: the one that is on ends last.
        ([10.0], [4.0], 0, 2, 6.0),
        # One that takes longer than the others did may end at any moment.
        ([10.0], [25.0], 0, 2, 0.0),
        ([], [4.0], 4, 2, None),
    ],
)
def test_the_time_left_takes_each_run_to_last_as_long_as_the_finished_ones(
    finished: list[float], running: list[float], waiting: int, at_once: int, left: float | None
) -> None:
    assert grid.seconds_left(finished, running, waiting, at_once) == left


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (68, "68 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (660, "11 min"),
        (5960, "99 min"),
        (11520, "3.2 h"),
    ],
)
def test_a_duration_has_two_figures_or_so(seconds: float, text: str) -> None:
    assert grid.duration(seconds) == text
