"""Every setting reaches the model."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.runs.short_runs import ALONE, SMALL, STEPS_PER_EPOCH
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import augment, layers
from tf_cutnmix.networks import sharing
from tf_cutnmix.runs import build, cost, display
from tf_cutnmix.runs.config import Config


def rate(model: keras.Model, step: int) -> float:
    model.optimizer.iterations.assign(step)
    return float(model.optimizer.learning_rate)


STEPS = 8 * STEPS_PER_EPOCH
SCHEDULES = {
    "constant": lambda step: 1.0,
    "cosine": lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2,
    "step": lambda step: 1.0 if step < STEPS // 2 else 0.1 if step < STEPS * 3 // 4 else 0.01,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_follows_its_schedule(schedule, training_images):
    config = Config(**{**ALONE, "epochs": 8, "learning_rate": 0.3, "schedule": schedule})
    model = build.build_model(config, training_images)
    expected = [0.3 * SCHEDULES[schedule](step) for step in range(STEPS)]
    np.testing.assert_allclose([rate(model, s) for s in range(STEPS)], expected, rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_in_a_longer_run_the_schedule_begins_anew_and_nothing_else_does(schedule, training_images):
    settings = {**ALONE, "learning_rate": 0.3, "schedule": schedule}
    short = build.build_model(Config(**{**settings, "epochs": 8}), training_images)
    longer = Config(**{**settings, "epochs": 16, "restarts": "8"})
    model = build.build_model(longer, training_images)
    expected = [0.3 * SCHEDULES[schedule](step % STEPS) for step in range(2 * STEPS)]
    np.testing.assert_allclose([rate(model, s) for s in range(2 * STEPS)], expected, rtol=1e-5)
    assert model.momentum == short.momentum
    assert model.method == short.method


def test_images_are_normalised_by_the_statistics_of_the_training_images(training_images):
    random = np.random.default_rng(0)
    pixels = random.integers(0, [50, 100, 250], (1234, 4, 4, 3)).astype(np.uint8)
    model = build.build_model(
        Config(**{**ALONE, "arch": "resnet8"}),
        training_images._replace(pixels=pixels, labels=np.zeros(1234, np.int32)),
    )
    layer = model.peers[0].get_layer("normalisation")
    np.testing.assert_allclose(np.squeeze(layer.mean), pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(np.squeeze(layer.variance), pixels.var((0, 1, 2)), rtol=1e-5)


def test_every_setting_reaches_the_model(training_images):
    settings = {
        "num_peers": 3,
        "temperature": 2.0,
        "weights": "teacher=0.5,feature=0.25",
        "share": "stage1",
        "views": "own",
        "ramp": 0.75,
        "teacher_memory": 0.1,
        "weight_decay": 1e-3,
        "momentum": 0.8,
        "crop": 0.3,
        "flip": "on",
        "alpha": 0.7,
        "ratio_per": "batch",
        "regions": "spread",
        "mix_probability": 0.5,
        "mix_until": 0.75,
        "ensemble_members": "others",
        "ensemble_view": "clean",
        "seed": 5,
        "epochs": 10,
    }
    model = build.build_model(Config(**{**SMALL, "arch": "resnet8", **settings}), training_images)
    steps = 10 * STEPS_PER_EPOCH
    assert model.method.get_config() == {
        "name": "cutnmix",
        "weights": {"teacher": 0.5, "feature": 0.25},
        "temperature": 2.0,
        "ramp_steps": steps * 3 // 4,
        "fit": "",
        "options": {"ensemble_members": "others", "ensemble_view": "clean"},
        "batch_size": 32,
        "teacher": "",
        "class_names": list("0123456789"),
        "class_weights": [],
    }
    assert sharing.shared_stage(model.peers) == "stage1"
    assert model.own_views
    assert model.momentum == pytest.approx(1 - 1 / (0.1 * steps))
    assert model.weight_decay == 1e-3
    assert model.optimizer.get_config()["momentum"] == 0.8
    assert model.optimizer.get_config()["nesterov"]
    wanted = (
        augment.CropAndFlip(0.3, True, seed=5),
        layers.build(
            "cutnmix",
            num_peers=3,
            alpha=0.7,
            ratio_per="batch",
            regions="spread",
            num_classes=10,
            seed=5,
            probability=0.5,
            until_step=steps * 3 // 4,
        ),
    )
    for layer, like in zip((model.augment, model.mixing), wanted, strict=True):
        assert {**layer.get_config(), "name": ""} == {**like.get_config(), "name": ""}


@pytest.mark.parametrize(
    ("settings", "stage", "own_views", "mean_gradient"),
    [
        ({"method": "dml"}, None, False, False),
        ({"method": "one"}, "stage2", False, False),
        ({"method": "cl_ilr"}, "stage2", False, True),
        ({"method": "pcl"}, "stage2", True, False),
        ({"method": "pcl", "views": "shared", "share": "stem"}, "stem", False, False),
        ({"method": "dml", "views": "own", "share": "stage3"}, "stage3", True, False),
        ({"method": "independent", "num_peers": 1, "share": "stage1"}, None, False, False),
    ],
)
def test_peers_share_stages_and_views_as_the_paper_has_it_unless_told_otherwise(
    settings, stage, own_views, mean_gradient, training_images
):
    model = build.build_model(Config(**{**SMALL, "arch": "resnet8", **settings}), training_images)
    assert sharing.shared_stage(model.peers) == stage
    assert model.own_views == own_views
    kinds = {type(layer) for layer in model.peers[0].layers}
    assert (sharing.MeanGradient in kinds) == mean_gradient


@pytest.mark.parametrize("method", ["one", "pcl", "ffl", "cl_ilr"])
def test_a_method_that_shares_refuses_a_network_without_stages(method, training_images):
    config = Config(**{**SMALL, "arch": "tiny_networks:without_stages", "method": method})
    with pytest.raises(InputError, match=f"--method={method} needs peers that share .* names 0"):
        build.build_model(config, training_images)


@pytest.mark.parametrize(
    ("dataset", "flip", "mirrored"),
    [
        ("digits", "auto", False),
        ("digits", "on", True),
        ("cifar10", "auto", True),
        ("cifar10", "off", False),
    ],
)
def test_characters_are_mirrored_only_if_asked(dataset, flip, mirrored, training_images):
    config = Config(**{**ALONE, "dataset": dataset, "flip": flip})
    assert build.build_model(config, training_images).augment.flip is mirrored


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {},
            "short run: 12 steps; the teacher remembers 1 (--teacher_memory), distillation grows "
            "over 6 (--ramp); --batch_size=8 would give 54",
        ),
        (
            {"epochs": 30, "teacher_memory": 0.1, "ramp": 0.25},
            "short run: 120 steps; the teacher remembers 12 (--teacher_memory), distillation grows "
            "over 30 (--ramp); --batch_size=8 would give 540",
        ),
        (
            {"method": "independent"},
            "short run: 12 steps; the teacher remembers 1 (--teacher_memory); --batch_size=8 would "
            "give 54",
        ),
        (
            {"epochs": 124, "method": "pcl"},
            "short run: 496 steps; the teacher remembers 5 (--teacher_memory), distillation grows "
            "over 124 (--ramp); --batch_size=16 would give 1116",
        ),
        ({"epochs": 125}, None),
    ],
)
def test_a_short_run_is_told_what_its_parts_of_the_run_come_to(settings, told, training_images):
    config = Config(**{**SMALL, "teacher_memory": 0.01, **settings})
    model = build.build_model(config, training_images)
    found = display.hints(config, model, training_images)
    assert [hint for hint in found if "short run" in hint] == ([told] if told else [])


@pytest.mark.parametrize(
    ("balance", "counts", "told"),
    [("none", (31, 10), True), ("none", (30, 10), False), ("sampling", (31, 10), False)],
)
def test_classes_of_unlike_size_are_told_unless_something_is_done(
    balance, counts, told, training_images
):
    model = build.build_model(Config(**ALONE), training_images)
    labels = np.repeat(np.arange(2), counts).astype(np.int32)
    train = training_images._replace(labels=labels, class_names=("a", "b"))
    found = display.hints(Config(**{**ALONE, "balance": balance}), model, train)
    assert any("--balance=weights or sampling" in line for line in found) == told


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_bfloat16_is_recommended_where_the_processor_has_it(precision, training_images):
    config = Config(**{**ALONE, "precision": precision})
    model = build.build_model(Config(**ALONE), training_images)
    found = display.hints(config, model, training_images)
    assert any("bfloat16" in line for line in found) == (
        precision == "float32" and cost.multiplies_in_bfloat16()
    )


@pytest.mark.slow
def test_the_threads_of_a_run_are_set_once_in_a_process(tmp_path):
    script = f"""
import tensorflow as tf
from tf_cutnmix import Config, train_and_evaluate
settings = {{**{SMALL!r}, "steps": 1, "overwrite": True}}
train_and_evaluate(Config(**settings, threads=1, workdir="run"))
print("threads", tf.config.threading.get_intra_op_parallelism_threads())
train_and_evaluate(Config(**settings, threads=1, workdir="run"))
train_and_evaluate(Config(**settings, threads=2, workdir="run"))
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert "short run: 12 steps" in process.stdout
    assert "threads 1\n" in process.stdout
    assert "InputError: --threads=2: TensorFlow has begun in this process with 1 thread" in (
        process.stderr
    )
    assert "--threads=1\n" in (tmp_path / "run" / "flags.cfg").read_text()
