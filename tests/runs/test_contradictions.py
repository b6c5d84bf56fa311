"""Settings that nothing would come of."""

import pytest

from tf_cutnmix import command, sweep
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import build
from tf_cutnmix.runs.config import Config, meaningless


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"teacher": "runs/x"}, "--teacher=runs/x has no meaning with --method=cutnmix, only"),
        ({"classes_by_position": True}, "--classes_by_position=True has no meaning"),
        ({"mix": "cutmix", "regions": "spread"}, "--regions=spread .* only with cutnmix"),
        ({"mix": "none", "alpha": 0.5}, "--alpha=0.5 has no meaning with --mix=none"),
        ({"mix": "none", "mix_until": 0.5}, "--mix_until=0.5 has no meaning"),
        ({"mix": "none", "ratio_per": "batch"}, "--ratio_per=batch has no meaning"),
        ({"num_peers": 1, "weights": "feature=2"}, "--weights=feature=2 .* with one peer"),
        ({"weights": "teacher=0", "ensemble_from": "peers"}, "--ensemble_from=peers .*teacher=0"),
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
        {"regions": "spread", "alpha": 0.5},
        {"mix": "mixup", "alpha": 0.5, "mix_until": 0.5},
        {"mix": "none", "alpha": 1.0},
        {"num_peers": 1, "weights": "feature=0"},
        {"weights": "teacher=0.1", "ensemble_from": "peers"},
        {"method": "dml", "temperature": 2.0},
        {"validation_split": "test", "validation_fraction": 0.0},
    ],
)
def test_a_setting_with_a_meaning_or_its_default_is_taken(settings) -> None:
    assert meaningless(Config(**settings)) == {}


def test_a_sweep_gives_its_settings_to_the_runs_that_have_a_use_for_them() -> None:
    flags = ["--grid=method=kd,dml", "--grid=mix=none,cutnmix", "--workdir=x", "--teacher=runs/x"]
    configs = sweep.make_configs(command.parse(sweep.Settings, [*flags, "--alpha=0.5"]))
    told = {name: (config.teacher, config.alpha) for name, config in configs.items()}
    assert told == {
        "method=kd,mix=none": ("runs/x", 1.0),
        "method=kd,mix=cutnmix": ("runs/x", 0.5),
        "method=dml,mix=none": ("", 1.0),
        "method=dml,mix=cutnmix": ("", 0.5),
    }
    varied = sweep.Settings(grid=("alpha=0.5,1",), mix="none", workdir="x")
    with pytest.raises(InputError, match=r"--alpha=0\.5 has no meaning"):
        [build.check_together(config) for config in sweep.make_configs(varied).values()]
