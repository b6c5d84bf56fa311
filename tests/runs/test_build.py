"""Every setting reaches the model and its optimizer."""

import math

import keras
import numpy as np
import pytest

from tests.processes import python
from tests.runs.short_runs import ALONE, SMALL, STEPS_PER_EPOCH, model_of, run
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import augment, layers
from tf_cutnmix.networks import sharing
from tf_cutnmix.runs import cost, optimizer
from tf_cutnmix.runs.config import Config

STEPS = 8 * STEPS_PER_EPOCH
SCHEDULES = {
    "constant": lambda step: 1.0,
    "cosine": lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2,
    "step": lambda step: 1.0 if step < STEPS // 2 else 0.1 if step < STEPS * 3 // 4 else 0.01,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_follows_its_schedule_and_begins_anew_in_a_longer_run(
    schedule, training_images
):
    settings = {"learning_rate": 0.3, "schedule": schedule}
    short = model_of(training_images, ALONE, **settings, epochs=8)
    longer = model_of(training_images, ALONE, **settings, epochs=16, restarts="8")
    for model, steps in ((short, STEPS), (longer, 2 * STEPS)):
        rates = []
        for step in range(steps):
            model.optimizer.iterations.assign(step)
            rates.append(float(model.optimizer.learning_rate))
        expected = [0.3 * SCHEDULES[schedule](step % STEPS) for step in range(steps)]
        np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert (longer.momentum, longer.method) == (short.momentum, short.method)


def test_what_is_below_the_classifiers_learns_at_its_own_rate_on_the_same_schedule():
    settings = {"schedule": "step", "learning_rate": 0.4, "momentum": 0.5, "epochs": 8}
    gradients = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    below, unused, above = (keras.Variable(np.ones(3)) for _ in range(3))
    built = optimizer.build(Config(**settings, learning_rate_backbone=0.1), 1, [below, unused])
    for gradient in gradients:
        built.apply([gradient, None, gradient], [below, unused, above])
    for variable, rate in ((below, 0.1), (above, 0.4)):
        value, velocity = np.ones(3), np.zeros(3)
        for step, gradient in enumerate(gradients):
            now = rate * (1 if step < 4 else 0.1 if step < 6 else 0.01)
            velocity = 0.5 * velocity - now * gradient
            value = value + 0.5 * velocity - now * gradient
        np.testing.assert_allclose(variable, value, rtol=1e-5)
    np.testing.assert_array_equal(unused, 1)  # as the loss does not depend on it


def test_images_are_normalised_by_the_statistics_of_the_training_images(training_images):
    random = np.random.default_rng(0)
    pixels = random.integers(0, [50, 100, 250], (1234, 4, 4, 3)).astype(np.uint8)
    images = training_images._replace(pixels=pixels, labels=np.zeros(1234, np.int32))
    layer = model_of(images, ALONE, arch="resnet8").peers[0].get_layer("normalisation")
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
    model = model_of(training_images, **settings)
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
        ({"method": "cl_ilr"}, "stage1", False, True),
        ({"method": "pcl"}, "stage1", True, False),
        ({"method": "pcl", "views": "shared", "share": "stem"}, "stem", False, False),
        ({"method": "independent", "num_peers": 1, "share": "stage1"}, None, False, False),
    ],
)
def test_peers_share_stages_and_views_as_the_paper_has_it_unless_set_otherwise(
    settings, stage, own_views, mean_gradient, training_images
):
    model = model_of(training_images, **settings)
    assert sharing.shared_stage(model.peers) == stage
    assert model.own_views == own_views
    kinds = {type(layer) for layer in model.peers[0].layers}
    assert (sharing.MeanGradient in kinds) == mean_gradient


def test_a_method_that_shares_refuses_a_network_without_stages(training_images):
    with pytest.raises(InputError, match=r"--method=pcl needs peers that share .* names 0"):
        model_of(training_images, arch="tiny_networks:without_stages", method="pcl")


@pytest.mark.parametrize(
    ("dataset", "flip", "mirrored"),
    [("digits", "auto", False), ("digits", "on", True), ("cifar10", "auto", True)],
)
def test_characters_are_mirrored_only_if_asked(dataset, flip, mirrored, training_images):
    model = model_of(training_images, ALONE, dataset=dataset, flip=flip)
    assert model.augment.flip is mirrored


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("base", "settings", "hint"),
    [
        (
            {**SMALL, "teacher_memory": 0.01},
            {},
            "short run: 12 steps; the teacher remembers 1 (--teacher_memory), distillation grows "
            "over 6 (--ramp); --batch_size=8 would give 54",
        ),
        (
            ALONE,
            {"epochs": 124, "teacher_memory": 0.1},
            "short run: 496 steps; the teacher remembers 50 (--teacher_memory); --batch_size=16 "
            "would give 1116",
        ),
        (ALONE, {"epochs": 125}, None),
    ],
)
def test_a_short_run_begins_with_what_its_parts_come_to(base, settings, hint, tmp_path, capsys):
    run(tmp_path, base, steps=1, **settings)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "short run" in line] == ([hint] if hint else [])
    bfloat16 = [line for line in lines if "--precision=mixed_bfloat16 may be faster" in line]
    assert len(bfloat16) == cost.multiplies_in_bfloat16()


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
    process = python("-c", script, cwd=tmp_path)
    assert process.returncode == 1
    assert "threads 1\n" in process.stdout
    assert "InputError: --threads=2: TensorFlow has begun in this process with 1 thread" in (
        process.stderr
    )
    assert "--threads=1\n" in (tmp_path / "run" / "flags.cfg").read_text()
