"""Every setting: its range, its help text, its way into a flag file and back."""

import dataclasses
import math
import pathlib
import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tf_cutnmix import command
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.config import Config

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
NUMBERS = [name for name, field in FIELDS.items() if field.type in (int, float, int | None)]
FLOATS = [name for name, field in FIELDS.items() if field.type is float]
CHOICES = [name for name, field in FIELDS.items() if field.metadata["choices"]]
# Text as a shell passes it on; a flagfile ends a value at the end of its line.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "))
TEXTS = TEXTS.map(str.strip)
EXPORTS = st.lists(st.sampled_from(["teacher", "peer", "ensemble"])).map(",".join)
POSITIVE = st.floats(0, 1e30, exclude_min=True)
BELOW_1 = st.floats(0, 1, exclude_max=True)
CONFIGS = st.builds(
    Config,
    dataset=TEXTS,
    data_dir=TEXTS,
    train_split=TEXTS,
    validation_fraction=BELOW_1,
    image_size=st.integers(0, 1000),
    flip=st.sampled_from(FIELDS["flip"].metadata["choices"]),
    num_peers=st.none() | st.integers(1, 9),
    alpha=POSITIVE,
    weights=st.sampled_from(["", "teacher=0", "teacher=0.5,feature=2"]),
    ramp=st.floats(0, 1),
    epochs=st.integers(1, 10**6),
    learning_rate=POSITIVE,
    seed=st.integers(0, 2**32 - 1),
    workdir=TEXTS,
    export=EXPORTS,
)


@pytest.fixture(scope="module")
def flagfile(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("run") / "flags.cfg"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("validation_fraction", -0.1),
        ("validation_fraction", 1.0),
        ("image_size", -1),
        ("crop", -0.1),
        ("crop", 1.0),
        ("num_peers", 0),
        ("num_peers", -2),
        ("alpha", 0.0),
        ("alpha", -1.0),
        ("temperature", 0.0),
        ("temperature", -3.0),
        ("ramp", -0.1),
        ("ramp", 1.1),
        ("teacher_memory", -0.1),
        ("teacher_memory", 1.5),
        ("epochs", 0),
        ("epochs", -1),
        ("batch_size", 0),
        ("batch_size", -8),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("momentum", -0.1),
        ("momentum", 1.0),
        ("weight_decay", -5e-4),
        ("seed", -1),
        ("seed", 2**32),
        ("steps", -1),
        ("max_pixels", 0),
        *[(name, math.nan) for name in FLOATS],
        *[(name, sign * math.inf) for name in FLOATS for sign in (1, -1)],
    ],
)
def test_a_number_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"--{name}={value}: must be ")):
        Config(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("validation_fraction", 0.0),
        ("validation_fraction", 0.999),
        ("image_size", 0),
        ("crop", 0.0),
        ("num_peers", 1),
        ("alpha", 1e-9),
        ("temperature", 0.5),
        ("ramp", 0.0),
        ("ramp", 1.0),
        ("teacher_memory", 0.0),
        ("teacher_memory", 1.0),
        ("epochs", 1),
        ("batch_size", 1),
        ("learning_rate", 1e-12),
        ("momentum", 0.0),
        ("weight_decay", 0.0),
        ("seed", 2**32 - 1),
        ("steps", 0),
    ],
)
def test_a_number_at_the_end_of_its_range_is_taken(name: str, value: float) -> None:
    assert getattr(Config(**{name: value}), name) == value


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_check(name: str) -> None:
    with pytest.raises(InputError, match=f"--{name}=-7"):
        Config(**{name: -7})


@pytest.mark.parametrize("name", CHOICES)
def test_what_is_no_choice_is_named_with_the_choices(name: str) -> None:
    with pytest.raises(InputError, match=f"--{name} 'zzz'") as caught:
        Config(**{name: "zzz"})
    for choice in FIELDS[name].metadata["choices"]:
        assert choice in str(caught.value)


def test_a_near_miss_of_a_choice_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="--schedule 'cosin': did you mean 'cosine'"):
        Config(schedule="cosin")


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_help_text_and_a_group(name: str) -> None:
    assert FIELDS[name].metadata["help"]
    assert FIELDS[name].metadata["group"]


@pytest.mark.parametrize(
    ("arch", "num_peers", "expected"),
    [
        ("resnet8", None, ("resnet8",) * 2),
        ("resnet8", 1, ("resnet8",)),
        ("resnet8", 3, ("resnet8",) * 3),
        ("resnet8,resnet14", None, ("resnet8", "resnet14")),
        (" resnet8 , resnet14,", 2, ("resnet8", "resnet14")),
        ("resnet8,resnet8,resnet14", None, ("resnet8", "resnet8", "resnet14")),
    ],
)
def test_there_is_one_architecture_for_each_peer(
    arch: str, num_peers: int | None, expected: tuple[str, ...]
) -> None:
    assert Config(arch=arch, num_peers=num_peers).architectures == expected


@pytest.mark.parametrize("num_peers", [1, 3])
def test_num_peers_must_fit_the_architectures(num_peers: int) -> None:
    with pytest.raises(InputError, match=f"names 2 networks and --num_peers is {num_peers}"):
        Config(arch="resnet8,resnet14", num_peers=num_peers)


@pytest.mark.parametrize("arch", ["", " ", ",", " , "])
def test_no_architecture_is_an_input_error(arch: str) -> None:
    with pytest.raises(InputError, match="--arch is empty"):
        Config(arch=arch)


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        ("", ()),
        ("teacher", ("teacher",)),
        ("teacher,peer", ("teacher", "peer")),
        (" ensemble , peer ", ("ensemble", "peer")),
    ],
)
def test_exports_are_a_comma_list(export: str, expected: tuple[str, ...]) -> None:
    assert Config(export=export).exports == expected


def test_an_unknown_export_is_named() -> None:
    with pytest.raises(InputError, match="--export 'teachers': did you mean 'teacher'"):
        Config(export="peer,teachers")


def test_resume_and_overwrite_contradict_each_other() -> None:
    with pytest.raises(InputError, match="--resume and --overwrite"):
        Config(resume=True, overwrite=True)
    assert Config(resume=True).resume
    assert Config(overwrite=True).overwrite


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "digits_resnet8"),
        ({"dataset": "cifar10", "arch": "resnet8,resnet14"}, "cifar10_resnet8_resnet14"),
        ({"dataset": "cifar10", "arch": "resnet8,resnet8"}, "cifar10_resnet8"),
        ({"dataset": "/data/my pets/"}, "my_pets_resnet8"),
        ({"dataset": "./pets"}, "pets_resnet8"),
        ({"dataset": "mnist:3.0.1"}, "mnist_3.0.1_resnet8"),
    ],
)
def test_a_run_is_called_after_its_data_and_networks(settings: dict, name: str) -> None:
    assert Config(**settings).name == name


def test_two_data_sets_of_one_size_have_two_names() -> None:
    names = {
        Config(dataset=f"{name}/32x32").name
        for name in ("imagenet_resized", "downsampled_imagenet")
    }
    assert len(names) == 2


@hypothesis.given(dataset=TEXTS | st.text("ab/.:~ "), arch=st.sampled_from(["resnet8", "../a b"]))
def test_a_name_is_a_safe_name_for_a_folder(dataset: str, arch: str) -> None:
    assert re.fullmatch(r"[\w.-]+", Config(dataset=dataset, arch=arch).name)


def test_the_default_folder_tells_runs_apart() -> None:
    runs = [
        Config(),
        Config(seed=1),
        Config(mix="mixup"),
        Config(method="independent"),
        Config(arch="resnet14"),
    ]
    assert len({run.folder for run in runs}) == len(runs)
    assert all(run.folder.startswith("runs/") for run in runs)


def test_workdir_is_the_folder() -> None:
    assert Config(workdir="elsewhere/run 1").folder == "elsewhere/run 1"


def from_flagfile(flagfile: pathlib.Path, config: Config) -> Config:
    flagfile.write_text(config.flagfile())
    return command.parse(Config, [f"--flagfile={flagfile}"])


@hypothesis.given(config=CONFIGS)
def test_a_flagfile_repeats_the_run(config: Config, flagfile: pathlib.Path) -> None:
    assert from_flagfile(flagfile, config) == config


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_peers": None, "arch": "resnet8, resnet14"},
        {"num_peers": 4},
        {"dataset": "/data/my pets", "export": "", "data_dir": ""},
        {"train_split": "train[:50%]+test[-10:]", "weight_decay": 1e-300, "alpha": 0.1 + 0.2},
        {"workdir": "#1 --epochs=3 // 'quoted' \"twice\" \\ = ü"},
    ],
)
def test_a_flagfile_repeats_special_values(settings: dict, flagfile: pathlib.Path) -> None:
    assert from_flagfile(flagfile, Config(**settings)) == Config(**settings)


@pytest.mark.parametrize("settings", [{"resume": True}, {"overwrite": True}, {"new_images": True}])
def test_a_flagfile_leaves_out_how_to_treat_an_earlier_run(settings: dict) -> None:
    assert Config(**settings).flagfile() == Config().flagfile()


def test_a_flagfile_names_every_other_setting() -> None:
    unset = {"num_peers": 2, "temperature": 1.0, "ramp": 0.5}
    unset |= {"batch_size": 8, "learning_rate_backbone": 0.1}
    lines = Config(**unset).flagfile().splitlines()
    names = {line.removeprefix("--").split("=")[0] for line in lines}
    assert names == set(FIELDS) - {"resume", "overwrite", "new_images"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": "x"}, "--epochs='x': must be of type int"),
        ({"epochs": 1.5}, r"--epochs=1\.5: must be of type int"),
        ({"epochs": True}, "--epochs=True: must be of type int"),
        ({"num_peers": "2"}, "--num_peers='2': must be of type int"),
        ({"learning_rate": None}, "--learning_rate=None: must be of type float"),
        ({"arch": ["resnet8"]}, "--arch=.*: must be of type str"),
        ({"resume": 1}, "--resume=1: must be of type bool"),
    ],
)
def test_a_value_of_another_type_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Config(**settings)


def test_numbers_of_numpy_are_numbers() -> None:
    config = Config(epochs=np.int64(3), learning_rate=np.float32(0.5), crop=0)
    assert (config.epochs, config.learning_rate, config.crop) == (3, 0.5, 0)


@pytest.mark.parametrize("restarts", ["3,2", "0,3", "9", "3,3"])
def test_restarts_rise_below_the_epochs(restarts: str) -> None:
    with pytest.raises(InputError, match=f"--restarts={restarts}: must rise, below --epochs=9"):
        Config(epochs=9, restarts=restarts)
    assert Config(epochs=9, restarts="3, 5").stretches == (3, 5, 9)
