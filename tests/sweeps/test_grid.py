"""Grids: texts to combinations of values, names of folders, which runs are done."""

import dataclasses

import pytest

from tests.run_folders import read_flags, write_run
from tf_cutnmix.errors import InputError
from tf_cutnmix.sweeps import grid


@pytest.mark.parametrize(
    ("texts", "parsed"),
    [
        (
            ["method=dml, cutnmix", "seed=0,1,2"],
            {"method": ("dml", "cutnmix"), "seed": ("0", "1", "2")},
        ),
        (["arch=resnet8,resnet14|resnet20"], {"arch": ("resnet8,resnet14", "resnet20")}),
        (["dataset=a=b,c"], {"dataset": ("a=b", "c")}),
    ],
)
def test_a_text_names_a_setting_and_its_values(texts, parsed) -> None:
    assert grid.parse(texts) == parsed


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["seed"], "--grid=seed: must be a setting and its values, such as seed=0,1,2"),
        (["=1,2"], "--grid==1,2"),
        (["seed=0,,1"], "--grid=seed=0,,1"),
        (["arch=a|"], "--grid=arch=a|"),
        (["seed=0", "mix=none", "seed=1"], "seed twice"),
        (["seed=0,1,0"], "--grid=seed=0,1,0: 0 comes twice"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        grid.parse(texts)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"learning_rate": 1e-05, "seed": 1}, "learning_rate=1e-05,seed=1"),
        ({"arch": "resnet8,resnet14", "seed": 1}, "arch=resnet8+resnet14,seed=1"),
        ({"dataset": "../my pets/new"}, "dataset=.._my_pets_new"),
        ({"weights": "feature=1"}, "weights=feature_1"),
    ],
)
def test_a_folder_is_named_by_settings_in_safe_characters(settings: dict, name: str) -> None:
    assert grid.folder_name(settings) == name


@pytest.mark.parametrize(
    ("begun", "wanted", "done"),
    [
        ({}, {}, True),
        ({}, {"save_minutes": 1.0, "cache_dir": "x"}, True),
        ({}, {"temperature": 2.0}, False),
        ({"temperature": 2.0}, {}, False),
        # The batch size of before stays, if it is not named.
        ({"batch_size": 8}, {}, True),
        ({"export": "peer"}, {"export": "peer"}, False),
        ({"export": "peer", "result": {"exports": {"peer": "x"}}}, {"export": "peer"}, True),
    ],
)
def test_a_run_is_done_that_was_made_with_the_same_settings_and_has_its_exports(
    begun, wanted, done, tmp_path
) -> None:
    folder = write_run(tmp_path / "run", **begun)
    config = read_flags(write_run(tmp_path / "wanted", **wanted) / "flags.cfg")
    assert grid.is_done(dataclasses.replace(config, workdir=str(folder))) == done
    (folder / "result.json").write_text("{")
    assert not grid.is_done(dataclasses.replace(config, workdir=str(folder)))
