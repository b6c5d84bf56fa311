"""Every setting: its range, its help text, its way into a flag file and back."""

import dataclasses
import math
import pathlib
import re
import shlex
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tf_cutnmix import command, sweep, train_and_evaluate
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import build, card
from tf_cutnmix.runs.config import (
    Config,
    as_begun,
    check_meaning,
    meaningless,
    settings_in,
    with_defaults,
)

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
NUMBERS = [name for name, field in FIELDS.items() if field.type in (int, float, int | None)]
CHOICES = [name for name, field in FIELDS.items() if field.metadata["choices"]]
# Text as a shell passes it on; a flagfile ends a value at the end of its line.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "))
TEXTS = TEXTS.map(str.strip)
POSITIVE = st.floats(0, 1e30, exclude_min=True)
CONFIGS = st.builds(
    Config,
    dataset=TEXTS,
    validation_fraction=st.floats(0, 1, exclude_max=True),
    flip=st.sampled_from(FIELDS["flip"].metadata["choices"]),
    num_peers=st.none() | st.integers(1, 9),
    alpha=POSITIVE,
    weights=st.sampled_from(["", "teacher=0", "teacher=0.5,feature=2"]),
    ramp=st.none() | st.just("fit") | st.floats(0, 1),
    epochs=st.integers(1, 10**6),
    learning_rate=POSITIVE,
    seed=st.integers(0, 2**32 - 1),
    workdir=TEXTS,
    export=st.lists(st.sampled_from(["teacher", "peer", "ensemble"])).map(",".join),
)


@pytest.fixture(scope="module")
def flagfile(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("run") / "flags.cfg"


# One setting


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("alpha", (0.0, -1.0, math.nan, math.inf, 1e39)),
        ("weight_decay", (-5e-4, math.nan, math.inf)),
        ("crop", (-0.1, 1.0, math.nan)),
        ("ramp", (-0.1, 1.1, math.nan, "fat")),
        ("teacher_memory", (-0.1, 1.1, math.nan)),
        ("epochs", (0, -1, 10**6 + 1, 2**70)),
        ("num_peers", (0, 101)),
        ("image_size", (-1, 2**15 + 1, "64x", "0x5", "64x32769", "6.5")),
        ("batch_size", (0, 2**31)),
        ("seed", (-1, 2**32)),
        ("restarts", ("x", "9" * 5000)),
    ],
)
def test_a_value_out_of_the_range_of_each_kind_is_named(name: str, values: tuple) -> None:
    for value in values:
        with pytest.raises(InputError, match=re.escape(f"--{name}={value}: must be ")):
            Config(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 1e-9, "validation_fraction": 0.0, "ramp": 1.0, "momentum": 0.0, "num_peers": 1},
        {"epochs": 1, "batch_size": 1, "weight_decay": 0.0, "seed": 2**32 - 1, "steps": 0},
    ],
)
def test_a_number_at_the_end_of_its_range_is_taken(settings: dict) -> None:
    assert dataclasses.asdict(Config(**settings)).items() >= settings.items()


def test_every_setting_has_a_check_a_help_text_and_a_group() -> None:
    for name in NUMBERS:
        with pytest.raises(InputError, match=f"--{name}=-7"):
            Config(**{name: -7})
    for name in CHOICES:
        with pytest.raises(InputError, match=f"--{name} 'zzz'") as caught:
            Config(**{name: "zzz"})
        assert all(choice in str(caught.value) for choice in FIELDS[name].metadata["choices"])
    for field in FIELDS.values():
        assert field.metadata["help"]
        assert field.metadata["group"]
    with pytest.raises(InputError, match="--schedule 'cosin': did you mean 'cosine'"):
        Config(schedule="cosin")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": "x"}, "--epochs='x': must be of type int"),
        ({"epochs": 1.5}, r"--epochs=1\.5: must be of type int"),
        ({"epochs": True}, "--epochs=True: must be of type int"),
        ({"alpha": None}, "--alpha=None: must be of type float"),
        ({"arch": ["resnet8"]}, "--arch=.*: must be of type str"),
        ({"resume": 1}, "--resume=1: must be of type bool"),
    ],
)
def test_a_value_of_another_type_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Config(**settings)


def test_what_is_no_config_is_no_run() -> None:
    with pytest.raises(InputError, match=r"given by its Config\. Received: {'epochs': 1}"):
        train_and_evaluate({"epochs": 1})


def test_numbers_of_numpy_are_numbers() -> None:
    config = Config(epochs=np.int64(3), learning_rate=np.float32(0.5), crop=0)
    assert (config.epochs, config.learning_rate, config.crop) == (3, 0.5, 0)


@pytest.mark.parametrize(
    ("arch", "num_peers", "expected"),
    [
        ("resnet8", None, ("resnet8",) * 2),
        ("resnet8", 3, ("resnet8",) * 3),
        (" resnet8 , resnet14,", 2, ("resnet8", "resnet14")),
        ("resnet8,resnet8,resnet14", None, ("resnet8", "resnet8", "resnet14")),
    ],
)
def test_there_is_one_architecture_for_each_peer(arch, num_peers, expected) -> None:
    assert Config(arch=arch, num_peers=num_peers).architectures == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arch": " , "}, "--arch is empty"),
        (
            {"arch": "resnet8,resnet14", "num_peers": 3},
            "names 2 networks and --num_peers is 3: leave --num_peers out",
        ),
        ({"export": "teacher,techer"}, "--export 'techer': did you mean 'teacher'"),
        ({"weights": "teacher"}, "--weights=teacher: write it as term=number"),
        ({"weights": "teacher=-1"}, "teacher=-1.0 must be a number of 0 or more"),
        ({"freeze": "backbone"}, "pass --weights_from"),
        ({"epochs": 9, "restarts": "3,2"}, "--restarts=3,2: must rise, below --epochs=9"),
        ({"epochs": 9, "restarts": "9"}, "--restarts=9: must rise, below --epochs=9"),
        ({"resume": True, "overwrite": True}, "contradict each other"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        Config(**settings)


# Settings without a meaning beside others


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"unlabelled_ratio": 2},
            "--unlabelled_ratio=2 has no meaning without --unlabelled: leave",
        ),
        ({"teacher": "runs/x"}, "--teacher=runs/x has no meaning with --method=cutnmix, only"),
        ({"classes_by_position": True}, "--classes_by_position=True has no meaning"),
        ({"mix": "cutmix", "regions": "spread"}, "--regions=spread .* only with cutnmix"),
        ({"mix": "none", "mix_until": 0.5}, "--mix_until=0.5 has no meaning with --mix=none"),
        ({"num_peers": 1, "weights": "feature=2"}, "--weights=feature=2 .* with one peer"),
        ({"weights": "teacher=0", "ensemble_from": "peers"}, "--ensemble_from=peers .*teacher=0"),
        ({"optimizer": "adamw", "momentum": 0.9}, "--momentum=0.9 .* with --optimizer=adamw"),
        ({"method": "independent", "temperature": 2.0}, "--temperature=2.0 .* imitates nothing"),
        (
            {"freeze": "backbone", "weights_from": "imagenet", "learning_rate_backbone": 0.1},
            "--learning_rate_backbone=0.1 has no meaning with --freeze=backbone",
        ),
        (
            {"validation_split": "test", "validation_fraction": 0.2},
            "--validation_fraction=0.2 has no meaning beside --validation_split=test",
        ),
    ],
)
def test_a_setting_without_meaning_is_refused_before_data_are_read(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        build.check_together(Config(dataset="./nothing", **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "kd", "teacher": "runs/x", "classes_by_position": True},
        {"regions": "spread", "alpha": 0.5, "weights": "teacher=0.1", "ensemble_from": "peers"},
        {"mix": "none", "alpha": 1.0},
        {"num_peers": 1, "weights": "feature=0"},
        {"validation_split": "test", "validation_fraction": 0.0},
    ],
)
def test_a_setting_with_a_meaning_or_its_default_is_taken(settings) -> None:
    assert meaningless(Config(**settings)) == {}


def test_a_sweep_gives_its_settings_to_the_runs_that_have_a_use_for_them() -> None:
    flags = ["--grid=method=kd,dml", "--grid=mix=none,cutnmix", "--workdir=x", "--teacher=runs/x"]
    configs = sweep.make_configs(command.parse(sweep.Settings, [*flags, "--alpha=0.5"]))
    assert {name: (config.teacher, config.alpha) for name, config in configs.items()} == {
        "method=kd,mix=none": ("runs/x", 1.0),
        "method=kd,mix=cutnmix": ("runs/x", 0.5),
        "method=dml,mix=none": ("", 1.0),
        "method=dml,mix=cutnmix": ("", 0.5),
    }
    varied = sweep.Settings(grid=("alpha=0.5,1",), mix="none", workdir="x")
    with pytest.raises(InputError, match=r"--alpha=0\.5 has no meaning"):
        [build.check_together(config) for config in sweep.make_configs(varied).values()]


# Names, folders and flag files


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "digits_resnet8"),
        ({"dataset": "cifar10", "arch": "resnet8,resnet14"}, "cifar10_resnet8_resnet14"),
        ({"dataset": "/data/my pets/", "arch": "resnet8,resnet8"}, "my_pets_resnet8"),
        ({"dataset": "mnist:3.0.1"}, "mnist_3.0.1_resnet8"),
        ({"dataset": "imagenet_resized/32x32"}, "imagenet_resized_32x32_resnet8"),
    ],
)
def test_a_run_is_called_after_its_data_and_networks(settings: dict, name: str) -> None:
    assert Config(**settings).name == name


@hypothesis.given(dataset=TEXTS | st.text("ab/.:~ "), arch=st.sampled_from(["resnet8", "../a b"]))
def test_a_name_is_a_safe_name_for_a_folder(dataset: str, arch: str) -> None:
    assert re.fullmatch(r"[\w.-]+", Config(dataset=dataset, arch=arch).name)


def test_the_default_folder_tells_runs_apart() -> None:
    runs = [Config(), Config(seed=1), Config(mix="mixup"), Config(method="independent")]
    assert len({run.folder for run in runs}) == len(runs)
    assert all(run.folder.startswith("runs/") for run in runs)
    assert Config(workdir="elsewhere/run 1").folder == "elsewhere/run 1"


def from_flagfile(flagfile: pathlib.Path, config: Config) -> Config:
    flagfile.write_text(config.flagfile())
    return command.parse(Config, [f"--flagfile={flagfile}"])


@hypothesis.given(config=CONFIGS)
@hypothesis.example(config=Config(dataset="/data/my pets", export="", arch="resnet8, resnet14"))
@hypothesis.example(
    config=Config(train_split="train[:50%]+test[-10:]", weight_decay=1e-300, alpha=0.1 + 0.2)
)
@hypothesis.example(config=Config(workdir="#1 --epochs=3 // 'quoted' \"twice\" \\ = ü"))
def test_a_flagfile_repeats_the_run(config: Config, flagfile: pathlib.Path) -> None:
    assert from_flagfile(flagfile, config) == config


def test_a_flagfile_names_every_setting_but_how_to_treat_an_earlier_run() -> None:
    of_earlier_runs = {"resume", "overwrite", "new_images"}
    for name in of_earlier_runs:
        assert Config(**{name: True}).flagfile() == Config().flagfile()
    unset = {"num_peers": 2, "temperature": 1.0, "ramp": 0.5}
    unset |= {"batch_size": 8, "learning_rate_backbone": 0.1, "crop": 0.1, "augment": "none"}
    lines = with_defaults(Config(**unset)).flagfile().splitlines()
    names = {line.removeprefix("--").split("=")[0] for line in lines}
    assert names == set(FIELDS) - of_earlier_runs


def left_open(**settings: Any) -> dict[str, Any]:
    config = with_defaults(Config(**settings))
    return {name: getattr(config, name) for name in DEFAULTS}


DEFAULTS = {
    "optimizer": "sgd",
    "epochs": 300,
    "learning_rate": 0.1,
    "learning_rate_backbone": None,
    "schedule": "step",
    "warmup": 0.0,
    "clip_norm": 0.0,
    "freeze": "none",
    "momentum": 0.9,
    "weight_decay": 5e-4,
}


def test_from_scratch_the_defaults_are_those_of_the_literature() -> None:
    assert left_open() == DEFAULTS
    assert left_open(clip_norm=1.0, epochs=3) == DEFAULTS | {"clip_norm": 1.0, "epochs": 3}
    own = {"learning_rate": 1e-3, "momentum": None, "weight_decay": 0.05}
    assert left_open(optimizer="adamw") == DEFAULTS | own | {"optimizer": "adamw"}


@pytest.mark.parametrize("weights", ["imagenet", "own", "some.weights.h5"])
def test_from_weights_the_defaults_are_those_of_fine_tuning(weights: str) -> None:
    tuned = left_open(weights_from=weights)
    assert (tuned["optimizer"], tuned["freeze"]) == ("adamw", "batchnorm")
    assert tuned["momentum"] is None
    assert tuned["learning_rate_backbone"] < tuned["learning_rate"] < DEFAULTS["learning_rate"]
    assert left_open(weights_from=weights, freeze="backbone")["learning_rate_backbone"] is None
    chosen = {"optimizer": "adamw", "weight_decay": 0.0, "schedule": "constant"}
    assert left_open(weights_from=weights, **chosen) == tuned | chosen
    sgd = left_open(weights_from=weights, optimizer="sgd")
    rates = {name: sgd[name] for name in ("learning_rate", "learning_rate_backbone")}
    assert tuned["learning_rate"] < rates["learning_rate"] < DEFAULTS["learning_rate"]
    of_sgd = {name: DEFAULTS[name] for name in ("optimizer", "momentum", "weight_decay")}
    assert sgd == tuned | of_sgd | rates


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adamw"},
        {"weights_from": "imagenet"},
        {"weights_from": "imagenet", "freeze": "backbone", "epochs": 7},
        {"weights_from": "imagenet", "optimizer": "sgd"},
    ],
)
def test_a_run_goes_on_and_is_repeated_as_it_was_begun(settings, flagfile) -> None:
    begun = with_defaults(Config(**settings, learning_rate=0.5, batch_size=16))
    assert with_defaults(from_flagfile(flagfile, begun)) == begun
    check_meaning(begun)
    same = as_begun(Config(**settings, learning_rate=0.5), begun.flagfile())
    assert settings_in(same.flagfile()) == settings_in(begun.flagfile())
    assert as_begun(Config(**settings, warmup=0.25), begun.flagfile()).warmup == 0.25
    words = shlex.split(card.command(begun.flagfile().splitlines()))
    assert with_defaults(command.parse(Config, words[3:-1])) == begun


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_flags_of_before_there_was_a_choice_are_of_sgd(weights: str, flagfile) -> None:
    flags = f"--weights_from={weights}\n--learning_rate=0.3\n--momentum=0.8\n"
    flagfile.write_text(flags)
    read = with_defaults(command.parse(Config, [f"--flagfile={flagfile}"]))
    own = with_defaults(Config(weights_from=weights, optimizer="sgd", **DEFAULTS_BEFORE))
    assert read == dataclasses.replace(own, learning_rate_backbone=None)
    assert settings_in(flags) == settings_in(read.flagfile())
    assert as_begun(Config(weights_from=weights), flags) == read


DEFAULTS_BEFORE: dict[str, Any] = {
    **{name: value for name, value in DEFAULTS.items() if name != "optimizer"},
    **{"learning_rate": 0.3, "momentum": 0.8},
}


def test_help_has_both_defaults() -> None:
    text = " ".join(command.help_text("train", "", Config).split())
    for shown in (
        "(default: 300; from weights ",
        "(default: 0.1, 0.02 from weights, 0.001 with adamw)",
    ):
        assert shown in text
